"""Peers for worlds.py: small networks that are trained from scratch on images and questions.

Imports nothing of lxmert. `cnn-lstm` and `relation-network` follow Santoro et al. 2017 ("A simple
neural network module for relational reasoning", section 5.2), with layers half as wide and each
pair of cells once, as one core would do few steps otherwise; `lstm` sees no image. Each is trained
for a number of CPU seconds, in which it answers the validation questions ten times; the weights
that did best answer the test questions.
"""

import argparse
import copy
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

SIDE, CELLS, CHANNELS, TEXT, HIDDEN = 80, 5, 24, 128, 128
IMAGES, QUESTIONS, EVALUATIONS = 16, 8, 10
VALIDATION = 2000
Row = dict[str, Any]


class Data:
    """Images and questions of a world as arrays; word 0 is padding, answer -1 an unseen one."""

    def __init__(self, folder: Path) -> None:
        rows = {split: read(folder / f"{split}.jsonl") for split in ("train", "valid", "test")}
        words = Counter(word for row in rows["train"] for word in split_words(row["question"]))
        self.words = {word: index + 1 for index, word in enumerate(sorted(words))}
        self.answers = sorted({row["answer"] for row in rows["train"]})
        numbers = {answer: index for index, answer in enumerate(self.answers)}
        names = sorted({row["image"] for each in rows.values() for row in each})
        self.images = torch.from_numpy(np.stack([shrink(folder / "images" / n) for n in names]))
        places = {name: index for index, name in enumerate(names)}
        self.rows, self.splits = rows, {}
        for split, each in rows.items():
            texts = [self.encode(row["question"]) for row in each]
            owners = torch.tensor([places[row["image"]] for row in each])
            targets = torch.tensor([numbers.get(row["answer"], -1) for row in each])
            self.splits[split] = (owners, nn.utils.rnn.pad_sequence(texts, True), targets)

    def encode(self, question: str) -> Tensor:
        """Return the numbers of a question's words; unknown words are left out."""
        known = [self.words[word] for word in split_words(question) if word in self.words]
        return torch.tensor(known or [0])

    def batches(self, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield question rows without end: a few questions of each of a few images at a time."""
        owners = self.splits["train"][0]
        order = torch.argsort(owners, stable=True)
        by_image = order.tensor_split(torch.unique(owners, return_counts=True)[1].cumsum(0)[:-1])
        while True:
            images = torch.randperm(len(by_image), generator=generator)
            for chosen in images.tensor_split(-(-len(images) // IMAGES)):
                yield torch.cat(
                    [
                        rows[torch.randperm(len(rows), generator=generator)[:QUESTIONS]]
                        for rows in (by_image[image] for image in chosen.tolist())
                    ]
                )


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def split_words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def shrink(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


class Peer(nn.Module):
    """An LSTM reads the question, four convolutions the image; `combine` joins them."""

    def __init__(self, method: str, words: int, answers: int) -> None:
        super().__init__()
        self.method = method
        self.embedding = nn.Embedding(words + 1, 32, padding_idx=0)
        self.lstm = nn.LSTM(32, TEXT, batch_first=True)
        stages: list[nn.Module] = []
        for number in range(4):
            before = CHANNELS if number else 3
            stages += [nn.Conv2d(before, CHANNELS, 3, 2, 1), nn.BatchNorm2d(CHANNELS), nn.ReLU()]
        self.convolutions = nn.Sequential(*stages)
        cell = CHANNELS + 2
        first = {"lstm": 0, "cnn-lstm": CELLS**2 * CHANNELS, "relation-network": 2 * cell}[method]
        self.inner = layers(first + TEXT, 3 if method == "relation-network" else 1)
        self.outer = nn.Sequential(*layers(HIDDEN, 1), nn.Dropout(0.5), nn.Linear(HIDDEN, answers))
        axis = torch.linspace(-1, 1, CELLS)
        places = torch.stack(torch.meshgrid(axis, axis, indexing="ij")).flatten(1).T
        self.register_buffer("places", places)  # [cells, 2]

    def forward(self, images: Tensor, owners: Tensor, texts: Tensor) -> Tensor:
        """Score the answers: `[questions, answers]` of `[questions, words]` about some images."""
        lengths = (texts != 0).sum(1).clamp(min=1)
        states, _ = self.lstm(self.embedding(texts))
        text = states[torch.arange(len(texts)), lengths - 1]
        if self.method == "lstm":
            return self.outer(self.inner(text))  # type: ignore[no-any-return]
        cells = self.convolutions(images.permute(0, 3, 1, 2) / 127.5 - 1).flatten(2).transpose(1, 2)
        if self.method == "cnn-lstm":
            joined = torch.cat([cells.flatten(1)[owners], text], 1)
            return self.outer(self.inner(joined))  # type: ignore[no-any-return]
        assert isinstance(self.places, Tensor)
        cells = torch.cat([cells, self.places.expand(len(cells), -1, -1)], 2)
        return self.outer(self.relate(cells, owners, text))  # type: ignore[no-any-return]

    def relate(self, cells: Tensor, owners: Tensor, text: Tensor) -> Tensor:
        """Sum over all pairs of cells. The first layer is applied to each part before joining."""
        linear = self.inner[0]
        assert isinstance(linear, nn.Linear)
        weight, cell = linear.weight, cells.shape[2]
        one, other = cells @ weight[:, :cell].T, cells @ weight[:, cell : 2 * cell].T
        asked = functional.linear(text, weight[:, 2 * cell :], linear.bias)
        rows, columns = torch.triu_indices(CELLS**2, CELLS**2)
        # [questions, pairs, hidden]
        pairs = (one[:, rows] + other[:, columns])[owners] + asked[:, None]
        return self.inner[1:](pairs).mean(1)  # type: ignore[no-any-return]


def layers(before: int, count: int) -> nn.Sequential:
    """Return layers of `HIDDEN` units with ReLU."""
    widths = [before, *[HIDDEN] * (count - 1)]
    return nn.Sequential(*(m for width in widths for m in (nn.Linear(width, HIDDEN), nn.ReLU())))


def answer(model: Peer, data: Data, split: str, limit: int | None = None) -> list[str]:
    """Return the answers to the questions of a split, or to every n-th of them."""
    owners, texts, _ = data.splits[split]
    rows = torch.arange(len(owners))
    rows = rows[:: max(1, len(rows) // limit)] if limit else rows
    found: list[str] = []
    with torch.inference_mode():
        for part in rows.tensor_split(-(-len(rows) // 128)):
            images, places = torch.unique(owners[part], return_inverse=True)
            scores = model.eval()(data.images[images], places, texts[part])
            found += [data.answers[best] for best in scores.argmax(1).tolist()]
    return found


def accuracy(data: Data, split: str, answers: list[str], limit: int | None = None) -> float:
    rows = data.rows[split]
    rows = rows[:: max(1, len(rows) // limit)] if limit else rows
    return float(np.mean([row["answer"] == a for row, a in zip(rows, answers, strict=True)]))


def train(method: str, data: Data, *, seconds: float, seed: int) -> tuple[Peer, int]:
    """Return the best weights by validation, and the number of steps of the time."""
    torch.manual_seed(seed)
    model = Peer(method, len(data.words), len(data.answers))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=1e-2)
    owners, texts, targets = data.splits["train"]
    started, steps, evaluated = time.process_time(), 0, 0
    best, best_state = -1.0, model.state_dict()
    for rows in data.batches(torch.Generator().manual_seed(seed)):
        images, places = torch.unique(owners[rows], return_inverse=True)
        longest = int((texts[rows] != 0).sum(1).max().clamp(min=1))
        scores = model.train()(data.images[images], places, texts[rows, :longest])
        optimizer.zero_grad()
        functional.cross_entropy(scores, targets[rows]).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        steps += 1
        share = (time.process_time() - started) / seconds
        if share * EVALUATIONS >= evaluated + 1:
            evaluated = int(share * EVALUATIONS)
            right = accuracy(data, "valid", answer(model, data, "valid", VALIDATION), VALIDATION)
            if right > best:
                best, best_state = right, copy.deepcopy(model.state_dict())
        if share >= 1:
            break
    model.load_state_dict(best_state)
    return model, steps


def main() -> None:
    """Train one peer on one world; print test accuracy by question type as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=("lstm", "cnn-lstm", "relation-network"))
    parser.add_argument("world", type=Path, help="folder of the world")
    parser.add_argument("--seconds", type=float, default=600, help="CPU seconds of training")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    data = Data(arguments.world)
    model, steps = train(arguments.method, data, seconds=arguments.seconds, seed=arguments.seed)
    right: dict[str, list[bool]] = defaultdict(list)
    for row, given in zip(data.rows["test"], answer(model, data, "test"), strict=True):
        for key in ("overall", row["question_type"]):
            right[key].append(row["answer"] == given)
    scores = {key: sum(values) / len(values) for key, values in right.items()}
    print(json.dumps({"accuracy": scores, "steps": steps}))


if __name__ == "__main__":
    main()
