"""Data sets of Hugging Face's `datasets` become question files and images."""

import io
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Command
from PIL import Image

from lxmert.data.check import check_data
from lxmert.data.lines import scan_lines
from lxmert.data.readers import read_questions
from lxmert.workflows.conversion import convert
from lxmert.workflows.inspection import inspect

pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")

from saved_datasets import encoded, save_splits, save_to_disk, table_of  # noqa: E402

RED, BLUE, PHOTO = (
    encoded((255, 0, 0)),
    encoded((0, 0, 255)),
    encoded((9, 8, 7), "JPEG"),
)
QUESTIONS = ["what color?", "is it ünlit?", "what is it?"]


def name_of(content: bytes, suffix: str = ".png") -> str:
    return sha256(content).hexdigest()[:32] + suffix


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("files", [1, 2])
def test_a_saved_data_set_becomes_questions_and_images(tmp_path: Path, files: int) -> None:
    table = table_of(
        [RED, PHOTO, RED], question=QUESTIONS, answer=["red", None, "box"], x=[1, 2, 3]
    )
    save_to_disk(tmp_path / "saved", table, {}, files)
    report = inspect(tmp_path / "saved")
    assert report.facts == {"questions": 3, "columns": ["question", "answer", "image", "x"]}
    result = convert(tmp_path / "saved", tmp_path / "vqa")
    assert result == (["columns that are not read: x"], [])
    names = [name_of(RED), name_of(PHOTO, ".jpg"), name_of(RED)]
    examples = read_questions(tmp_path / "vqa" / "questions.jsonl")
    assert [example.image_ids for example in examples] == [(name,) for name in names]
    assert [example.text for example in examples] == QUESTIONS
    assert [dict(example.answers) for example in examples] == [{"red": 1.0}, {}, {"box": 1.0}]
    written = {path.name: path.read_bytes() for path in (tmp_path / "vqa" / "images").iterdir()}
    assert written == {names[0]: RED, names[1]: PHOTO}


def test_splits_are_files_and_classes_have_their_names(tmp_path: Path) -> None:
    table = table_of(
        [RED, BLUE, BLUE], question=QUESTIONS, answer=[1, 0, -1], question_id=[8, 9, 11]
    )
    answers = {"names": ["no", "red"], "_type": "ClassLabel"}
    save_splits(tmp_path / "saved", {"train": table, "val.2": table.slice(1)}, answer=answers)
    assert inspect(tmp_path / "saved").facts["val.2"] == 2
    convert(tmp_path / "saved", tmp_path / "vqa")
    assert lines_of(tmp_path / "vqa" / "train.jsonl") == [
        {"image": name_of(RED), "question": QUESTIONS[0], "answer": "red", "question_id": 8},
        {"image": name_of(BLUE), "question": QUESTIONS[1], "answer": "no", "question_id": 9},
        {"image": name_of(BLUE), "question": QUESTIONS[2], "question_id": 11},
    ]
    assert [line["question_id"] for line in lines_of(tmp_path / "vqa" / "val.2.jsonl")] == [9, 11]
    with pytest.raises(FileExistsError, match=r"train.jsonl exists already: name another folder"):
        convert(tmp_path / "saved", tmp_path / "vqa")


def test_parquet_files_of_the_hub_have_several_answers(tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "data"
    folder.mkdir(parents=True)
    listed = [[{"answer": "red", "answer_id": 1}, {"answer": "pink", "answer_id": 2}]] * 2
    by_field = {"answer": ["red", "pink"], "answer_id": [1, 2]}
    scores = pyarrow.array([[("red", 0.9)]] * 2, pyarrow.map_(pyarrow.string(), pyarrow.float64()))
    names = ("train-00000-of-00002-8f.parquet", "train-00001-of-00002.parquet", "test.parquet")
    for name, answers in zip(names, (listed, [by_field] * 2, scores), strict=True):
        table = table_of([RED, BLUE], question=QUESTIONS[:2], answers=answers)
        pyarrow.parquet.write_table(table, folder / name)
    convert(tmp_path / "hub", tmp_path / "vqa")
    training = read_questions(tmp_path / "vqa" / "train.jsonl")
    assert [dict(example.answers) for example in training] == [{"red": 0.5, "pink": 0.5}] * 4
    test = read_questions(tmp_path / "vqa" / "test.jsonl")
    assert [dict(example.answers) for example in test] == [{"red": 0.9}] * 2
    one = convert(folder / names[0], tmp_path / "one")
    assert (one.notes, len(lines_of(tmp_path / "one" / "questions.jsonl"))) == ([], 2)


def test_paths_pairs_and_plain_bytes_are_images_too(tmp_path: Path) -> None:
    pair = pyarrow.table({"question": ["same?"], "images": [[{"bytes": RED}, {"bytes": BLUE}]]})
    for name, table in (
        ("pair", pair),
        ("path", pyarrow.table({"question": ["a?"], "image": ["b/1.png"]})),
        ("bytes", pyarrow.table({"question": ["a?"], "image": [RED]})),
    ):
        pyarrow.parquet.write_table(table, tmp_path / f"{name}.parquet")
        convert(tmp_path / f"{name}.parquet", tmp_path / name)
    (line,) = lines_of(tmp_path / "pair" / "questions.jsonl")
    assert line["images"] == [name_of(RED), name_of(BLUE)]
    assert lines_of(tmp_path / "path" / "questions.jsonl")[0]["image"] == "b/1.png"
    assert not (tmp_path / "path" / "images").exists()
    assert lines_of(tmp_path / "bytes" / "questions.jsonl")[0]["image"] == name_of(RED)


def test_a_killed_conversion_goes_on_with_its_images(tmp_path: Path) -> None:
    save_to_disk(tmp_path / "saved", table_of([RED, BLUE], question=QUESTIONS[:2]), {})
    images = tmp_path / "vqa" / "images"
    images.mkdir(parents=True)
    (images / name_of(RED)).write_bytes(RED[:20])
    whole = images / name_of(BLUE)
    whole.write_bytes(BLUE)
    before = whole.stat().st_mtime_ns
    convert(tmp_path / "saved", tmp_path / "vqa")
    assert (images / name_of(RED)).read_bytes() == RED
    assert whole.stat().st_mtime_ns == before


def test_damaged_images_are_named_and_kept(lxmert: Command, tmp_path: Path) -> None:
    save_to_disk(tmp_path / "saved", table_of([b"text", RED], question=QUESTIONS[:2]), {})
    done = lxmert("convert", str(tmp_path / "saved"), str(tmp_path / "vqa"))
    assert done.code == 3
    name = name_of(b"text", ".jpg")
    assert f"row 1: the image {name} is no image that is read here" in done.err
    assert (tmp_path / "vqa" / "images" / name).read_bytes() == b"text"
    assert len(lines_of(tmp_path / "vqa" / "questions.jsonl")) == 2


def test_bad_data_sets_get_one_sentence(tmp_path: Path) -> None:
    def refuse(name: str, table: Any, message: str) -> None:
        save_to_disk(tmp_path / name, table, {})
        with pytest.raises(ValueError, match=message):
            convert(tmp_path / name, tmp_path / f"{name}-questions")
        assert not list((tmp_path / f"{name}-questions").glob("*.jsonl"))

    columns = r'has the columns \["query", "image"\]; expected image, question, and answer'
    refuse("columns", table_of([RED], query=["what?"]), columns)
    path = {"bytes": None, "path": "/home/me/1.png"}
    refuse("path", table_of([path], question=["a?"]), r"row 1 has an image without bytes, only")
    refuse("nan", table_of([RED], question=["a?"], boxes=[[np.nan]]), "row 1 has a value that a")
    save_to_disk(tmp_path / "cut", table_of([RED, BLUE], question=QUESTIONS[:2]), {})
    file = tmp_path / "cut" / "data-00000-of-00001.arrow"
    file.write_bytes(file.read_bytes()[:600])
    with pytest.raises(ValueError, match=r"arrow is damaged \(.*\): fetch or save the data set"):
        convert(tmp_path / "cut", tmp_path / "new")
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"is missing, but listed in state.json"):
        convert(tmp_path / "cut", tmp_path / "new")
    (tmp_path / "cut" / "state.json").write_text('{"_data_files": [{"filename": "../x.arrow"}]}')
    with pytest.raises(ValueError, match="is no relative path inside"):
        convert(tmp_path / "cut", tmp_path / "new")


def test_readers_of_questions_say_how_to_convert(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"`lxmert convert {tmp_path} NEW`"):
        list(scan_lines(tmp_path))
    report = check_data({"train": [tmp_path]}, images=tmp_path)
    assert f"`lxmert convert {tmp_path} NEW`" in str(report.to_dict())
    file = tmp_path / "train.parquet"
    pyarrow.parquet.write_table(table_of([RED], question=["a?"]), file)
    (line,) = scan_lines(file)
    assert f"`lxmert convert {file} NEW`" in line.problems[0].detail


def test_suffixes_are_those_of_the_content() -> None:
    from lxmert.data.image_folder import IMAGE_ENDINGS
    from lxmert.images import FORMATS, image_suffix

    for kind in FORMATS:
        suffix = image_suffix(io.BytesIO(encoded((1, 2, 3), kind)))
        assert suffix in IMAGE_ENDINGS
        assert Image.registered_extensions()[suffix] == kind
