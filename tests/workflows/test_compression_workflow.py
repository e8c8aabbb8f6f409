"""`lxmert compress` on the bundled model."""

import json
from pathlib import Path

import pytest
from conftest import ROOT, Command

MODEL, IMAGES = ROOT / "src/lxmert/default", ROOT / "src/lxmert/examples"
QUESTIONS = IMAGES / "questions.jsonl"


@pytest.mark.long
def test_a_compressed_model_is_used_like_any_other(lxmert: Command, tmp_path: Path) -> None:
    done = lxmert(
        "compress", MODEL, "-o", tmp_path / "small", "--cross", 0.2, "--layers", "2,1,2",
        "--data", QUESTIONS, "--images", IMAGES, "--limit", 6, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    report = json.loads(done.out)
    old, new = report["parameters"]
    assert new < old
    assert report["megabytes"][1] < report["megabytes"][0]
    assert report["nonzero"][1] < report["nonzero"][0]
    assert report["time"] > 0
    (before, *_), (after, low, high) = report["accuracy"]
    assert before >= 5 / 6
    assert low <= after <= high
    assert json.loads((tmp_path / "small/config.json").read_text())["l_layers"] == 2
    assert not (tmp_path / "small/README.md").exists()
    asked = lxmert(
        "ask", IMAGES / "scene.png", "What color is the ball?", "--model", tmp_path / "small"
    )
    assert asked.code == 0, asked.err
    again = lxmert("compress", MODEL, "-o", tmp_path / "small", "--cross", 0.2)
    assert (again.code, "has a model already" in again.err) == (2, True)


@pytest.mark.slow
def test_nothing_removed_is_the_same_model(lxmert: Command, tmp_path: Path) -> None:
    done = lxmert("compress", MODEL, "-o", tmp_path / "same", "--data", QUESTIONS,
                  "--images", IMAGES)  # fmt: skip
    assert done.code == 0, done.err
    accuracy = next(line for line in done.out.splitlines() if line.startswith("accuracy"))
    after, before = accuracy.removeprefix("accuracy: ").split(", before ")
    assert after == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--layers", "2,1"), "--layers is '2,1'"),
        (("--layers", "2,9,1"), "--layers keeps 9 layers of vision"),
        (("--vision", 1.5), "--vision is 1.5"),
        (("--limit", 5), "belong to --data"),
    ],
)
def test_impossible_options_are_one_sentence(
    lxmert: Command, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    done = lxmert("compress", MODEL, "-o", tmp_path / "out", *options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert not (tmp_path / "out").exists()
