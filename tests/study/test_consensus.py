"""`lxmert evaluate --metric consensus` on paraphrases of questions about the example images."""

import json
from pathlib import Path

import pytest
from conftest import ROOT, Command

from lxmert.study.consensus import read_group_names

MODEL, IMAGES = ROOT / "src/lxmert/default", ROOT / "src/lxmert/examples"
RIGHT, WRONG = "What color is the ball?", "Why?"


def write(path: Path, groups: list[list[str]], *, named: bool = True) -> Path:
    lines = [
        {"image": "scene.png", "question": text, "answer": "yellow", "question_type": "color"}
        | ({"group": f"g{number}"} if named else {})
        for number, texts in enumerate(groups)
        for text in texts
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_groups_are_scored(lxmert: Command, tmp_path: Path) -> None:
    data = write(tmp_path / "q.jsonl", [[RIGHT, RIGHT, RIGHT], [RIGHT, WRONG, RIGHT], [WRONG]])
    command = ("evaluate", MODEL, "--metric", "consensus", "--data", data, "--images", IMAGES)
    done = lxmert(*command, "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["scores"]["overall"] == pytest.approx(
        {"consensus_1": (1 + 2 / 3) / 2, "consensus_2": (1 + 1 / 3) / 2, "consensus_3": 0.5}
    )
    assert report["scores"]["color"] == report["scores"]["overall"]
    assert report["count"] == {"overall": 2, "color": 2}
    assert "1 question without paraphrase" in report["warnings"][0]
    shown = lxmert(*command)
    assert "consensus 3" in shown.out


def test_lines_without_a_group_are_no_paraphrases_of_each_other(tmp_path: Path) -> None:
    """Those with a null were a group named None."""
    lines = tmp_path / "q.jsonl"
    lines.write_text('{"group": null}\n{"group": ""}\n{}\n{"group": 7}\n')
    assert read_group_names(lines) == ["", "", "", "7"]


def test_questions_without_groups_are_refused(lxmert: Command, tmp_path: Path) -> None:
    data = write(tmp_path / "q.jsonl", [[RIGHT, RIGHT]], named=False)
    done = lxmert("evaluate", MODEL, "--metric", "consensus", "--data", data, "--images", IMAGES)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "add a key 'group'" in done.err
