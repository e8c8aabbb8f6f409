"""Builders of datasets that test models, against lines worked out by hand."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import downloads as world
import pytest
import study_sets
from conftest import Command
from features import write_features

from lxmert.data.answer_lists import read_answers
from lxmert.data.corpus import Corpus
from lxmert.datasets.making import Options, make_data

NAMES = {
    "vqa-cp": {"train": 5, "test": 5},
    "vqa-ce": {"valid": 10},
    "vqa-rephrasings": {"valid": 5},
    "gqa-ood": {"valid": 2, "testdev": 2},
    "ok-vqa": {"train": 9, "valid": 9},
    "vizwiz": {"train": 9, "valid": 9, "test": 9},
    "vsr": {"train": 2, "valid": 2, "test": 2},
    "vsr-zeroshot": {"train": 2, "valid": 2, "test": 2},
    "snli-ve": {"train": 3, "valid": 3, "test": 3},
}
"""Files and lines of each set."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("downloads")
    world.write_vqa(folder)
    return study_sets.write_all(folder)


def build(name: str, source: Path, target: Path, **options: Any) -> dict[str, list[dict[str, Any]]]:
    folder = make_data(name, source, target, Options(**options)).folder
    return {
        path.stem: [json.loads(line) for line in path.read_text().splitlines()]
        for path in folder.glob("*.jsonl")
    }


@pytest.mark.parametrize("name", NAMES)
def test_files_and_lines(source: Path, tmp_path: Path, name: str) -> None:
    found = build(name, source, tmp_path)
    assert {file: len(lines) for file, lines in found.items()} == NAMES[name]
    corpus = Corpus.read((tmp_path / name).glob("*.jsonl"), strict=True)
    assert len(corpus) == sum(NAMES[name].values())


def test_changing_priors_keep_the_split_of_their_files(source: Path, tmp_path: Path) -> None:
    found = build("vqa-cp", source, tmp_path)
    assert read_answers(tmp_path / "vqa-cp/answers.json").answers == ("mug",)
    assert found["test"][0] == {
        "question_id": 42000, "image": "COCO_val2014_000000000042", "question": "What?",
        "answer": "mug", "question_type": "other", "split": "test",
    }  # fmt: skip
    assert found["train"][0]["image"] == "COCO_train2014_000000000009"


def test_counterexamples_are_a_question_type(source: Path, tmp_path: Path) -> None:
    lines = build("vqa-ce", source, tmp_path)["valid"]
    kinds = Counter(line["question_type"] for line in lines)
    assert kinds == {"counterexamples": 2, "hard": 1, "easy": 7}
    assert lines[0]["question_type"] == "counterexamples"
    assert lines[0]["answers"] == {"mug": 1.0, "yes": 1.0}
    manifest = json.loads((tmp_path / "vqa-ce/manifest.json").read_text())
    assert manifest["left_out"]["listed number without a question"]["first"] == ["99999"]


def test_rephrasings_share_a_group(source: Path, tmp_path: Path) -> None:
    lines = build("vqa-rephrasings", source, tmp_path)["valid"]
    assert [(line["question_id"], line["group"]) for line in lines] == [
        ("42001", "42001"), ("420011", "420011"), ("42001-420011", "42001"),
        ("42001-420012", "42001"), ("42001-420013", "42001"),
    ]  # fmt: skip
    assert lines[2]["question"] == "So, which 1?"
    assert lines[1]["image"] == "COCO_val2014_000000000420"
    assert lines[0]["answers"] == {"mug": 1.0, "cup": 1.0}


def test_rare_and_frequent_answers_are_question_types(source: Path, tmp_path: Path) -> None:
    found = build("gqa-ood", source, tmp_path)
    assert [line["question_type"] for line in found["testdev"]] == ["head", "tail"]
    assert found["testdev"][1]["image"] == "n3"
    assert found["valid"][0]["answer"] == "red"


def test_outside_knowledge_is_told_from_the_first_vqa(source: Path, tmp_path: Path) -> None:
    found = build("ok-vqa", source, tmp_path)
    assert found["valid"][0]["answer"] == "surf"
    assert found["valid"][0]["question_type"] == "four"
    other = tmp_path / "other"
    other.mkdir()
    study_sets.write_ok(other)
    path = other / "mscoco_train2014_annotations.json"
    path.write_text(path.read_text().replace("raw_answer", "first_answer"))
    with pytest.raises(ValueError, match="expected an official OK-VQA file"):
        build("ok-vqa", other, tmp_path / "again")


def test_photographs_of_blind_people(source: Path, tmp_path: Path) -> None:
    found = build("vizwiz", source, tmp_path)
    assert found["valid"][0]["image"] == "VizWiz_val_00000000"
    assert found["valid"][0]["answer"] == "unanswerable"
    assert "answer" not in found["test"][0]
    other = tmp_path / "other"
    other.mkdir()
    study_sets.write_vizwiz(other)
    (other / "vizwiz/val.json").write_text((other / "vizwiz/train.json").read_text())
    with pytest.raises(ValueError, match="expected images of val"):
        build("vizwiz", other, tmp_path / "again")


def test_relations_find_regions_by_number(lxmert: Command, source: Path, tmp_path: Path) -> None:
    write_features(tmp_path / "train2014_obj36.tsv", list(study_sets.COCO_NAMES))
    done = lxmert("convert", tmp_path / "train2014_obj36.tsv", tmp_path / "store")
    assert done.code == 0, done.err
    store = tmp_path / "store"
    found = build("vsr", source, tmp_path, regions=(store,))
    assert [line["image"] for line in found["train"]] == list(study_sets.COCO_NAMES)
    assert [line["answer"] for line in found["valid"]] == ["False", "True"]
    assert found["valid"][0]["question_type"] == "behind"
    assert found["valid"][0]["question"] == "The cat of dev is behind the mug."
    assert read_answers(tmp_path / "vsr/answers.json").answers == ("False", "True")


def test_entailment_has_three_answers(source: Path, tmp_path: Path) -> None:
    found = build("snli-ve", source, tmp_path)
    answers = [line["answer"] for line in found["test"]]
    assert answers == ["entailment", "neutral", "contradiction"]
    assert found["test"][0]["image"] == "4705552913"


def test_a_missing_file_names_its_page(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"snli_ve_train.jsonl .* from https://github"):
        build("snli-ve", tmp_path / "empty", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"lxmert fetch vqa-cp"):
        build("vqa-cp", tmp_path / "empty", tmp_path)
