"""A model folder without its tokenizer is refused wherever texts are read.

Bug: a tokenizer without words was made up, and every question got the same answer.
"""

import shutil
from pathlib import Path

import pytest
from conftest import ROOT, Command

from lxmert import LxmertPipeline, LxmertProcessor, LxmertTokenizer, LxmertTokenizerFast
from lxmert.data.tokenizer import TOKENIZER_FILES

DATA = ("--data", "questions.jsonl")
IMAGES = ("--images", ".")
COMMANDS = {
    "ask": ("scene.png", "What is this?", "--model", "bare"),
    "match": ("scene.png", "a red ball", "--model", "bare"),
    "explain": ("scene.png", "What is this?", "--model", "bare", "-o", "report.html"),
    "predict": ("bare", *DATA, *IMAGES, "-o", "answers.jsonl"),
    "evaluate": ("bare", *DATA, *IMAGES),
    "study": ("bare", *DATA, *IMAGES, "-o", "study"),
    "explain-eval": ("bare", *DATA, *IMAGES, "-o", "faithfulness"),
    "attention-figures": ("bare", *DATA, *IMAGES, "-o", "figures.png"),
    "export": ("bare", "-o", "exported"),
    "serve": ("bare", "--port", "0"),
    "check": ("questions.jsonl", *IMAGES, "--model", "bare"),
    "train": (
        "custom", "-o", "run", "--set", "data.train=questions.jsonl",
        "--set", "data.images=.", "--set", "model.init_from=bare", "--set", "model.hidden_size=256",
    ),
}  # fmt: skip


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with questions, images, and the bundled model without its tokenizer."""
    shutil.copytree(ROOT / "src/lxmert/examples", tmp_path, dirs_exist_ok=True)
    names = shutil.ignore_patterns(*TOKENIZER_FILES)
    shutil.copytree(ROOT / "src/lxmert/default", tmp_path / "bare", ignore=names)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "bare"


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_refuses_a_folder_without_tokenizer(
    command: str, bare: Path, lxmert: Command
) -> None:
    before = set(bare.parent.rglob("*"))
    result = lxmert(command, *COMMANDS[command])
    assert (result.code, result.out) == (2, "")
    assert "bare has neither tokenizer.json nor vocab.txt" in result.err
    assert len(result.err.splitlines()) == 1
    written = {path.name for path in set(bare.parent.rglob("*")) - before}
    # A training checks its data and makes its plan first.
    assert written <= {"run", "data-report.json", "plan.json"}


@pytest.mark.parametrize("load", [LxmertPipeline.from_pretrained, LxmertProcessor.from_pretrained])
def test_python_refuses_a_folder_without_tokenizer(load, bare: Path) -> None:
    with pytest.raises(FileNotFoundError, match="bare has neither"):
        load(bare)


@pytest.mark.parametrize("kind", [LxmertTokenizer, LxmertTokenizerFast])
def test_the_tokenizer_itself_refuses_it(kind, bare: Path) -> None:
    with pytest.raises(ValueError, match="bare has no tokenizer, or one without any word: copy it"):
        kind.from_pretrained(bare)
    for name in TOKENIZER_FILES:
        if (bundled := ROOT / "src/lxmert/default" / name).is_file():
            shutil.copy(bundled, bare)
    assert kind.from_pretrained(bare).tokenize("A red ball") == ["a", "red", "ball"]
