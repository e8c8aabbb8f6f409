"""Splits whose answers change in frequency."""

import json
from collections import Counter
from pathlib import Path

import pytest
from conftest import Command

from lxmert.data.prior_shift import FILES, shift_priors

COLORS = ("red", "green", "blue", "black")


def write(folder: Path, images: int = 200) -> Path:
    lines = [
        {
            "image": f"{image}.png",
            "question": f"What color is ball {part}?",
            "answer": COLORS[(image + part) % 4],
            "note": part,
        }
        for image in range(images)
        for part in range(4)
    ]
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_frequent_answers_become_rare(lxmert: Command, tmp_path: Path) -> None:
    path = write(tmp_path)
    done = lxmert("data", "shift", path, "-o", tmp_path / "out", "--rare", 0.1, "--seed", 3)
    assert done.code == 0, done.err
    lines = {
        name: [json.loads(line) for line in (tmp_path / "out" / f"{name}.jsonl").open()]
        for name in FILES
    }
    shares = {}
    for name, found in lines.items():
        counts = Counter(line["answer"] for line in found)
        shares[name] = {color: counts[color] / len(found) for color in COLORS}
        assert all(set(line) == {"image", "question", "answer", "note"} for line in found)
    frequent = {color for color, share in shares["train"].items() if share > 0.25}
    assert len(frequent) == 2
    assert sum(shares["train"][color] for color in frequent) > 0.85
    assert sum(shares["valid"][color] for color in frequent) > 0.75
    assert sum(shares["test"][color] for color in frequent) < 0.15
    images = [{line["image"] for line in found} for found in lines.values()]
    assert sum(map(len, images)) == len(set.union(*images))
    assert f"train.jsonl: {len(lines['train'])} questions" in done.out


def test_a_share_of_one_keeps_everything(tmp_path: Path) -> None:
    counts = shift_priors(write(tmp_path), tmp_path / "out", rare=1.0)
    assert sum(counts.values()) == 800


def test_impossible_splits_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--rare is 2"):
        shift_priors(write(tmp_path), tmp_path / "out", rare=2)
    with pytest.raises(ValueError, match="too few for a"):
        shift_priors(write(tmp_path, images=1), tmp_path / "out", rare=0.1)
