"""Code of docs/migrate.md runs, its commands are real, and converted weights answer."""

import ast
import json
import re
import shlex
import shutil
from pathlib import Path

import downloads as world
import pytest
from conftest import ROOT, Command
from downloads import TRAIN_9, TRAIN_25, VAL_42, VAL_73
from features import write_features
from official_files import write_json
from squares import read_lines

import lxmert as package
from docs import check_links, code_blocks, commands
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.model.loading import save_original
from lxmert.tasks.registry import TASKS
from lxmert.train.recipes import find_recipe, read_recipe
from lxmert.workflows.examples import copy_examples

PAGE = (ROOT / "docs/migrate.md").read_text(encoding="utf-8")
CELLS = [
    cell
    for line in PAGE.splitlines()
    if line.startswith("| ")
    for cell in re.findall(r"`([^`]+)`", line.rsplit(" | ", 1)[1])
]
"""Code of the last column of every table: what to write now."""
ANSWERS = ["", "mug", "yes"]
IMAGES = {
    "train2014": [TRAIN_9, TRAIN_25],
    "val2014": [VAL_42, VAL_73],
    "test2015": ["COCO_test2015_000000000008"],
}


def test_the_python_code_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    copy_examples(Path("examples"))
    blocks = code_blocks(PAGE, "python")
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "docs/migrate.md", "exec"), {})
    shape, answers = capsys.readouterr().out.splitlines()
    assert shape == "torch.Size([1, 4, 6, 36])"
    best, second = ast.literal_eval(answers)  # as transformers' pipeline returned them
    assert best.keys() == second.keys() == {"score", "answer"}
    assert best["answer"] == "yellow"
    assert best["score"] > second["score"]


def test_the_named_classes_and_functions_are_public() -> None:
    names = {
        name
        for cell in CELLS
        for name in re.findall(
            r"\b(Lxmert\w+|RegionStore|(?:load|save|carry|register)_\w+)\b", cell
        )
    }
    names -= {"save_pretrained"}
    assert len(names) >= 12
    assert {name for name in names if not hasattr(package, name)} == set()


def test_commands_in_tables_have_options_and_keys_that_exist(lxmert: Command) -> None:
    lines = [cell for cell in CELLS if "lxmert " in cell and "..." not in cell]
    lines = [line.split("-m ")[-1] for line in lines if not line.startswith("from")]
    assert len(lines) == 10
    for line in lines:
        _, command, *arguments = shlex.split(line)
        known = lxmert(command, "--help").out
        for option in (argument for argument in arguments if argument.startswith("-")):
            assert option in known, line
        if command == "train":
            changes = [value for value in arguments if "=" in value]
            read_recipe(find_recipe(Path(arguments[0])), TASKS, overrides=changes)


def test_recipe_keys_exist() -> None:
    part = PAGE.split("### Options")[1].split("###")[0]
    keys = [key for key in re.findall(r"`([a-z_.]+=[^`]*)`", part) if "FILE" not in key]
    assert len(keys) >= 16
    for key in keys:
        recipe = "pretraining" if key.startswith("objectives") else "vqa"
        read_recipe(find_recipe(Path(recipe)), TASKS, overrides=[key])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user of the original code has: features, JSON files, weights, BERT's word list."""
    data = tmp_path / "lxmert/data"
    world.write_original(data)
    write_json(data / "vqa/trainval_label2ans.json", ANSWERS)
    for name, image_ids in IMAGES.items():
        write_features(data / f"mscoco_imgfeat/{name}_obj36.tsv", image_ids)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "what", "is", "it", "?"]
    (tmp_path / "bert-base-uncased").mkdir()
    (tmp_path / "bert-base-uncased/vocab.txt").write_text("\n".join(words) + "\n")
    config = package.LxmertConfig(
        vocab_size=len(words), hidden_size=64, num_attention_heads=1, intermediate_size=32,
        l_layers=1, x_layers=1, r_layers=1, num_qa_labels=len(ANSWERS),
    )  # fmt: skip
    save_original(LxmertForQuestionAnswering(config), tmp_path / "BEST.pth")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("folder")
def test_features_data_and_weights_of_the_original_code_are_converted(lxmert: Command) -> None:
    lines = commands(PAGE)
    assert len(lines) == 5
    for program, *arguments in lines:
        if program == "cp":
            shutil.copy(*arguments)
            continue
        result = lxmert(*arguments)
        assert result.code == 0, f"{arguments}\n{result}"
    expected = read_lines(Path("data/original-vqa/valid.jsonl"))
    rows = json.loads(Path("minival_predict.json").read_text())
    assert [row["question_id"] for row in rows] == [line["question_id"] for line in expected]
    assert rows
    assert all(row["answer"] in ANSWERS for row in rows)


def test_links_lead_somewhere() -> None:
    check_links(PAGE, ROOT / "docs")
