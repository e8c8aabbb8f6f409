"""A task whose examples are numbers; as a script it trains, so that tests can start processes."""

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn

from lxmert.files import write_text
from lxmert.records import Record
from lxmert.tasks.mixture import Mixture
from lxmert.tasks.task import Batch
from lxmert.train.loop import train
from lxmert.train.recipes import Recipe, Tasks, read_recipe


class ToyData(Record):
    """Which numbers there are."""

    num_examples: int = 23
    """Numbers from 0 on."""

    mix: tuple[float, float] | None = Field(default=None, strict=False)
    """Weights of the first five numbers and of the others; absent: no mixture."""

    failing: int | None = None
    """Number whose loss is NaN; absent: none."""

    weights: dict[str, float] = Field(default_factory=lambda: {"value": 1.0, "parity": 0.5})
    """Weight of each objective."""


class ToyModel(Record):
    """Size of the network."""

    hidden_size: int = 8
    """Units."""

    dropout: float = 0.0
    """Probability."""

    double: bool = False
    """Whether to compute in float64, where the order of sums hardly matters."""


class ToySettings(Record):
    """The tables of the toy task."""

    data: ToyData
    model: ToyModel


class ToyNetwork(nn.Module):
    """Two heads, one of which many batches leave alone, and one parameter that nothing uses."""

    def __init__(self, settings: ToyModel) -> None:
        super().__init__()
        self.body = nn.Linear(3, settings.hidden_size)
        self.dropout = nn.Dropout(settings.dropout)
        self.value = nn.Linear(settings.hidden_size, 1)
        self.parity = nn.Linear(settings.hidden_size, 2)
        self.idle = nn.Linear(2, 2)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.calls: Tensor

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += self.training
        hidden = self.dropout(torch.tanh(self.body(inputs)))
        return self.value(hidden).squeeze(-1), self.parity(hidden)


class ToyTask:
    """Learn a function of every number, and the parity of every fifth."""

    settings_type: ClassVar[type[Record]] = ToySettings
    best_metric = "score"

    def __init__(self, settings: ToySettings, *, seed: int) -> None:
        self.settings = settings
        self.loss_weights: Mapping[str, float] = settings.data.weights
        torch.manual_seed(seed)
        self.model: nn.Module = ToyNetwork(settings.model)
        groups = np.arange(5), np.arange(5, settings.data.num_examples)
        mix = settings.data.mix
        self.mixture = None if mix is None else Mixture(groups, mix)
        self.model.to(torch.float64 if settings.model.double else torch.float32)

    def __len__(self) -> int:
        return self.settings.data.num_examples

    def example(self, index: int, epoch: int) -> tuple[int, int]:
        assert 0 <= index < len(self)
        return index, epoch

    def collate(self, examples: Sequence[tuple[int, int]]) -> Batch:
        numbers = torch.tensor([index for index, _ in examples])
        dtype = torch.float64 if self.settings.model.double else torch.float32
        noise = [((index * 7 + epoch * 3) % 11) / 11 for index, epoch in examples]
        return {"numbers": numbers, "noise": torch.tensor(noise, dtype=dtype)}

    def counts(self, batch: Batch) -> dict[str, float]:
        numbers = batch["numbers"]
        return {"value": float(len(numbers)), "parity": float((numbers % 5 == 0).sum())}

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        numbers = batch["numbers"]
        scaled = numbers.to(batch["noise"].dtype) / len(self)
        value, parity = model(torch.stack([scaled, scaled**2, batch["noise"]], dim=1))
        errors = (value - torch.sin(6 * scaled)) ** 2
        if self.settings.data.failing is not None:
            errors = errors * torch.where(numbers == self.settings.data.failing, torch.nan, 1.0)
        asked = numbers % 5 == 0
        mean = nn.functional.cross_entropy(parity[asked], numbers[asked] % 2)
        # The mean over nothing is NaN: an objective with count 0 must still do no harm.
        return {"value": errors.sum(), "parity": mean * asked.sum()}

    def evaluate(self, *, device: str, limit: int | None = None) -> dict[str, float]:
        assert not self.model.training
        batch = self.collate([(index, 0) for index in range(len(self))[:limit]])
        with torch.no_grad():
            losses = self.losses(self.model, {k: v.to(device) for k, v in batch.items()})
        # Draws from the generator that dropout uses, as a careless task might.
        return {"score": -float(losses["value"]), "draw": float(torch.rand(()))}

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.model.state_dict(), folder / "model.safetensors")


TASKS: Tasks = {"toy": ToyTask}

RECIPE = """
task = "toy"
seed = 3

[optim]
lr = 1e-2
batch_size = 8
steps = 20
warmup_steps = 3
clip_norm = 1.0

[loop]
log_every = 5
checkpoint_every = 4
evaluate_every = 6
"""


def toy_recipe(folder: Path, *overrides: str) -> Recipe:
    """Write the recipe into a folder and read it."""
    folder.mkdir(parents=True, exist_ok=True)
    # At once, since several processes of a run write it while others read it.
    write_text(folder / "toy.toml", RECIPE)
    return read_recipe(folder / "toy.toml", TASKS, overrides=overrides)


def toy_task(recipe: Recipe) -> ToyTask:
    """Build the task of a recipe."""
    assert isinstance(recipe.settings, ToySettings)
    return ToyTask(recipe.settings, seed=recipe.seed)


def train_toy(folder: Path, *overrides: str) -> dict[str, float]:
    """Train into `folder/run` on the CPU."""
    recipe = toy_recipe(folder, *overrides)
    return train(recipe, toy_task(recipe), folder / "run", cpu=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(json.dumps(train_toy(Path(sys.argv[1]), *sys.argv[2:])))
