"""A tiny set of custom data: images of one colored square each, with three questions."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

COLORS = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (20, 170, 40)}

Line = Mapping[str, object]

TINY = (
    "data.budget=", "optim.schedule=linear",
    "model.hidden_size=32", "model.num_attention_heads=4", "model.intermediate_size=64",
    "model.l_layers=1", "model.x_layers=1", "model.r_layers=1", "optim.batch_size=8",
    "optim.epochs=", "optim.min_steps=", "optim.steps=6", "optim.warmup_steps=1",
    "loop.precision=fp32", "loop.log_every=2", "loop.checkpoint_every=2", "loop.evaluate_every=3",
)  # fmt: skip
"""Changes that make a step of the recipe take milliseconds."""


def write_squares(folder: Path, count: int = 30, *, seed: int = 8) -> Path:
    """Write `images/0.png` and so on, and `train.jsonl` with three lines for each."""
    (folder / "images").mkdir(parents=True)
    generator = np.random.default_rng(seed)
    lines: list[Line] = []
    for index in range(count):
        name = list(COLORS)[index % 3]
        pixels = np.full((48, 64, 3), 200, np.uint8)
        top, left = generator.integers(0, 24, size=2)
        pixels[top : top + 20, left : left + 20] = COLORS[name]
        Image.fromarray(pixels).save(folder / "images" / f"{index}.png")
        image = {"image": f"{index}.png"}
        is_red = "yes" if name == "red" else "no"
        lines.append(
            image | {"question": "what color is it?", "answer": name, "question_type": "color"}
        )
        lines.append(image | {"question": "is it red?", "answer": is_red})
        lines.append(image | {"question": "how many?", "answer": "1"})
    write_lines(folder / "train.jsonl", lines)
    return folder


def write_lines(path: Path, lines: Iterable[Line]) -> Path:
    """Write a JSONL file."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def read_lines(path: Path) -> list[dict[str, object]]:
    """Read a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def settings(*more: str) -> list[str]:
    """Return the `--set` options that make the recipe tiny."""
    return [option for pair in (*TINY, *more) for option in ("--set", pair)]
