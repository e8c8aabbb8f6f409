"""The command that copies the bundled examples."""

from pathlib import Path

import pytest
from conftest import Command

from lxmert import LxmertPipeline
from lxmert.data.readers import read_questions
from lxmert.workflows.examples import copy_examples


def test_the_copy_is_complete_and_usable(tmp_path: Path, lxmert: Command) -> None:
    done = lxmert("examples", "-o", tmp_path / "deep/examples")
    assert (done.code, done.err) == (0, "")
    folder = tmp_path / "deep/examples"
    examples = read_questions(folder / "questions.jsonl")
    assert len(examples) == 24
    assert {example.image_ids[0] for example in examples} == {
        path.name for path in folder.glob("*.png")
    }
    assert all(example.question_type for example in examples)
    pipeline = LxmertPipeline.from_pretrained(folder / "model")
    assert pipeline.ask(folder / "scene.png", "What color is the ball?")[0].answer == "yellow"


def test_an_incomplete_copy_is_completed(tmp_path: Path) -> None:
    written = copy_examples(tmp_path / "examples")
    kept, lost = tmp_path / "examples/scene.png", tmp_path / "examples/model/config.json"
    before = kept.stat().st_mtime_ns
    lost.unlink()
    assert copy_examples(tmp_path / "examples") == written
    assert lost.is_file()
    assert kept.stat().st_mtime_ns == before


def test_files_of_the_user_are_not_replaced(tmp_path: Path, lxmert: Command) -> None:
    (tmp_path / "scene-2.png").write_text("mine")
    done = lxmert("examples", "-o", tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "scene-2.png exists and is not the example: name another folder with -o" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["scene-2.png"]
    with pytest.raises(FileExistsError):
        copy_examples(tmp_path)
