"""Recipes: a TOML file to frozen settings, and back.

Relative paths in a recipe are relative to the current directory, not to the recipe's own. Only its
`base`, another recipe of which it says what is different, is looked for in its own directory.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from lxmert.files import read_toml
from lxmert.tasks.task import Task
from lxmert.train.tables import from_table, merge, override, to_table, unknown_name, write_toml

Tasks = Mapping[str, type[Task]]
"""Task classes by name; a class is called with its settings and the keyword `seed`."""

BUNDLED = Path(__file__).parents[1] / "recipes"
"""Folder of the recipes that come with the package."""


@dataclass(frozen=True)
class OptimSettings:
    """The table `[optim]`: how weights follow from gradients.

    Raises:
        ValueError: a value is out of range, or two of them contradict each other.
    """

    lr: float
    """Learning rate at its peak."""

    batch_size: int
    """Examples of one optimiser step, over all processes and micro-batches."""

    name: Literal["adamw", "bert-adam"] = "adamw"
    """The optimiser; `bert-adam` is the original code's: no bias correction, decay of everything,
    and a learning rate that begins at 0."""

    steps: int | None = None
    """Optimiser steps of the run; give either this or `epochs`."""

    epochs: float | None = None
    """Passes over the training examples, rounded up to whole steps; give either this or `steps`."""

    min_steps: int = 0
    """Fewest steps of a run that is given in `epochs`, for small data sets."""

    weight_decay: float = 0.01
    """Decoupled weight decay; with AdamW of matrices only, never of biases and of normalisation
    scales; with BertAdam of everything."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the two moving averages."""

    eps: float = 1e-6
    """Added to the denominator; the value of the paper's code."""

    warmup_steps: int = 0
    """Steps in which the learning rate rises linearly to its peak."""

    warmup_share: float = 0.0
    """The same as a share of the run's steps, where their number is not known; give either."""

    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate goes on after the warm-up: down to 0, or not at all."""

    clip_norm: float | None = None
    """Largest norm of the gradient of all weights together; absent: no clipping."""

    start_at: dict[str, float] = field(default_factory=dict)
    """Objective -> the share of the run after which it begins to count; until then it weighs 0.
    `{qa = 0.5}` is the paper's pretraining: no answers in its first half."""

    def __post_init__(self) -> None:
        _require(self.lr > 0, f"optim.lr is {self.lr}; expected a number above 0: try 1e-4")
        _require(
            self.batch_size >= 1,
            f"optim.batch_size is {self.batch_size}; expected at least 1: try 32",
        )
        _require(
            (self.steps is None) != (self.epochs is None),
            f"optim.steps is {self.steps} and optim.epochs is {self.epochs}; expected exactly one "
            "of them: remove the other from the recipe, or with --set optim.epochs=",
        )
        length = "steps" if self.epochs is None else "epochs"
        _require(
            (self.steps or self.epochs or 0) > 0,
            f"optim.{length} is {getattr(self, length)}; expected more than 0: try {length} = 1",
        )
        _require(
            self.weight_decay >= 0,
            f"optim.weight_decay is {self.weight_decay}; expected at least 0: try 0.01",
        )
        _require(
            all(0 <= beta < 1 for beta in self.betas),
            f"optim.betas is {self.betas}; expected two numbers in [0, 1): try [0.9, 0.999]",
        )
        _require(self.eps > 0, f"optim.eps is {self.eps}; expected a number above 0: try 1e-6")
        _require(
            self.clip_norm is None or self.clip_norm > 0,
            f"optim.clip_norm is {self.clip_norm}; expected a number above 0: "
            "remove the key to train without clipping",
        )
        _require(
            0 <= self.warmup_share < 1 and not (self.warmup_share and self.warmup_steps),
            f"optim.warmup_share is {self.warmup_share} and optim.warmup_steps is "
            f"{self.warmup_steps}; expected one of them, a share in [0, 1): try warmup_share = 0.1",
        )
        for objective, share in self.start_at.items():
            _require(
                0 <= share < 1,
                f"optim.start_at.{objective} is {share}; expected a share of the run in [0, 1): "
                "try 0.5",
            )
        check_warmup(self, self.steps)


@dataclass(frozen=True)
class LoopSettings:
    """The table `[loop]`: how the steps are run and watched.

    Raises:
        ValueError: a value is out of range.
    """

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Precision of matrix products; weights stay float32."""

    micro_batches: int = 1
    """Parts into which each process cuts its share of a batch, to save memory."""

    gradient_checkpointing: bool = False
    """Whether layers are computed again in the backward pass: slower, with less memory."""

    workers: int = 0
    """Processes per rank that prepare examples; 0: the training process does it itself."""

    log_every: int = 10
    """Steps between two lines of the log."""

    checkpoint_every: int = 500
    """Steps between two checkpoints, from which the same command resumes."""

    evaluate_every: int | None = None
    """Steps between two evaluations, whose best weights are kept; absent: only at the end."""

    evaluate_limit: int | None = None
    """Validation examples that an evaluation looks at; absent: all."""

    def __post_init__(self) -> None:
        least = {"workers": 0}
        for known in fields(self):
            value, minimum = getattr(self, known.name), least.get(known.name, 1)
            _require(
                not isinstance(value, int) or isinstance(value, bool) or value >= minimum,
                f"loop.{known.name} is {value}; expected at least {minimum}: "
                f"write {known.name} = {minimum} or more",
            )


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run.

    Attributes:
        task: name in the table of tasks.
        settings: instance of the task's `settings_type`; its fields are tables of the recipe.
        optim: the table `[optim]`.
        loop: the table `[loop]`.
        seed: of the initial weights, the order of the examples, masks and dropout; at least 0.
    """

    task: str
    settings: object
    optim: OptimSettings
    loop: LoopSettings
    seed: int = 0


def read_recipe(path: Path, tasks: Tasks, *, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe from a TOML file.

    Args:
        path: the file.
        tasks: task classes by name.
        overrides: `a.b=value` each, as `--set` takes them; they win over the file. An empty value
            removes the key.

    Raises:
        FileNotFoundError: there is no such file, or no such base.
        ValueError: the file is no TOML, it is its own base, or a key or a value is wrong.
    """
    return make_recipe(override(read_tables(path), overrides), tasks)


def make_recipe(table: Mapping[str, object], tasks: Tasks) -> Recipe:
    """Build a recipe from its tables.

    Args:
        table: `task`, `seed`, `optim`, `loop` and the tables of the task's settings; and `preset`,
            where the task has presets, whose values hold where the tables say nothing.
        tasks: task classes by name.

    Raises:
        ValueError: a key is unknown or missing, a value has the wrong type, or the settings
            contradict each other.
    """
    if "stages" in table:
        raise ValueError("stages is a table of a sweep: use lxmert lab sweep for this recipe")
    name = table.get("task")
    if not isinstance(name, str):
        raise ValueError(
            f"task is {name!r}; expected one of {', '.join(tasks)}: "
            f'write task = "{next(iter(tasks))}" at the top of the recipe'
        )
    if name not in tasks:
        raise ValueError(f"task: {unknown_name(name, tasks)}")
    table = _with_preset(table, tasks[name])
    return _build(name, tasks[name].settings_type, table)


def _build(name: str, settings_type: type, table: Mapping[str, object]) -> Recipe:
    own = [known.name for known in fields(settings_type)]
    frame = ["task", "seed", "optim", "loop"]
    assert not set(own) & set(frame), f"{settings_type.__name__} takes a name of {frame}"
    for key in table:
        if key not in (*frame, *own):
            raise ValueError(unknown_name(key, [*frame, *own]))
    common = from_table(_Common, {key: table[key] for key in frame if key in table})
    settings: object = from_table(settings_type, {key: table[key] for key in own if key in table})
    return Recipe(name, settings, common.optim, common.loop, common.seed)


def read_tables(path: Path) -> dict[str, object]:
    """Read the tables of a file, laid over those of its base; lists are replaced whole.

    Raises:
        FileNotFoundError: there is no such file, or no such base.
        ValueError: the file or a base is no TOML, or it is its own base.
    """
    return _read_over_base(path, ())


def find_recipe(name: Path) -> Path:
    """Return the path of a recipe: a file, or a bundled one by its name, such as `vqa`."""
    bundled = BUNDLED / f"{name}.toml"
    return bundled if not name.is_file() and bundled.is_file() else name


def _read_over_base(path: Path, above: Sequence[Path]) -> dict[str, object]:
    """Do it for a file that is the base of others, or the base of their base."""
    path = find_recipe(path)
    if not path.is_file():
        named = f"base of {above[-1]}: " if above else ""
        raise FileNotFoundError(
            f"{named}{path} is no file; expected a recipe in TOML: pass the path of one"
        )
    if path.resolve() in [other.resolve() for other in above]:
        raise ValueError(f"{path} is its own base: remove base from it, or from {above[-1]}")
    table = read_toml(path)
    base = table.pop("base", None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise ValueError(f'{path}: base is {base!r}; expected a file: base = "NAME.toml"')
    return merge(_read_over_base(path.parent / base, (*above, path)), table)


def _with_preset(table: Mapping[str, object], task: type[Task]) -> Mapping[str, object]:
    """Fill a recipe up with the values of the preset that it names.

    Raises:
        ValueError: if the task has no such preset.
    """
    presets: Mapping[str, Mapping[str, object]] = getattr(task, "presets", {})
    if "preset" not in table or not presets:
        return table
    if table["preset"] not in presets:
        raise ValueError(f"preset: {unknown_name(str(table['preset']), presets)}")
    own = {key: value for key, value in table.items() if key != "preset"}
    return merge(presets[str(table["preset"])], own)


def recipe_table(recipe: Recipe) -> dict[str, object]:
    """Return the tables of a resolved recipe, defaults included; `make_recipe` takes them back."""
    common = _Common(recipe.task, recipe.optim, recipe.loop, recipe.seed)
    return to_table(common) | to_table(recipe.settings)


def fill_up(table: Mapping[str, object], like: Recipe) -> dict[str, object]:
    """Return the resolved recipe of a run with what it does not say set to the defaults.

    One that an older version wrote lacks the settings that are new, which then had no effect. What
    is no recipe for the task of `like` is returned as it is.
    """
    try:
        return recipe_table(_build(str(table.get("task", like.task)), type(like.settings), table))
    except ValueError:
        return dict(table)


def recipe_text(recipe: Recipe) -> str:
    """Return a resolved recipe as TOML text."""
    return write_toml(recipe_table(recipe))


def check_warmup(optim: OptimSettings, num_steps: int | None) -> None:
    """Check that the warm-up fits the run.

    Args:
        optim: the settings.
        num_steps: steps of the run; None where `epochs` leaves that to the number of examples.

    Raises:
        ValueError: the warm-up is negative or longer than the run.
    """
    longest = None if num_steps is None else num_steps - 1
    _require(
        optim.warmup_steps >= 0 and (longest is None or optim.warmup_steps <= longest),
        f"optim.warmup_steps is {optim.warmup_steps}; expected at least 0 and less than the "
        f"run's steps ({num_steps}): lower it, or train longer",
    )


def check_objectives(optim: OptimSettings, objectives: Collection[str]) -> None:
    """Check that the objectives with a beginning are those of the task.

    Raises:
        ValueError: one of them is unknown.
    """
    for name in optim.start_at:
        if name not in objectives:
            raise ValueError(f"optim.start_at: {unknown_name(name, list(objectives))}")


@dataclass(frozen=True)
class _Common:
    """The part of a recipe that all tasks share."""

    task: str
    optim: OptimSettings
    loop: LoopSettings
    seed: int = 0

    def __post_init__(self) -> None:
        _require(
            0 <= self.seed < 2**31,
            f"seed is {self.seed}; expected 0 to {2**31 - 1}: try seed = 1",
        )
        batch_size, parts = self.optim.batch_size, self.loop.micro_batches
        check_batch(batch_size, parts)


def check_batch(batch_size: int, parts: int) -> None:
    """Check that a batch can be cut into equal parts.

    Args:
        batch_size: examples of one optimiser step.
        parts: micro-batches of one step, over all processes.

    Raises:
        ValueError: the parts would differ in size.
    """
    nearest = max(parts, round(batch_size / parts) * parts)
    _require(
        batch_size % parts == 0,
        f"optim.batch_size is {batch_size}; expected a multiple of {parts} "
        f"(loop.micro_batches times the number of processes): try {nearest}",
    )


def _require(valid: bool, message: str) -> None:
    if not valid:
        raise ValueError(message)
