"""The files of a data set, and that an interrupted one is completed to the same files."""

import json
from pathlib import Path

import pytest

from lxmert.data.coco import read_coco
from lxmert.data.readers import read_captions, read_located_questions, read_questions
from lxmert.scenes import dataset
from lxmert.scenes.dataset import make_dataset
from lxmert.scenes.vocabulary import ATTRIBUTE_GROUPS, OBJECTS

ARGUMENTS = {"split": "valid", "count": 6, "seed": 3, "rounds": 1, "captions": 2}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "valid"
    make_dataset(folder, **ARGUMENTS)
    return folder


def test_our_own_readers_read_it(made: Path) -> None:
    split = read_coco(made / "objects.json", image_folder=made / "images")
    assert split.object_names == OBJECTS
    assert dict(split.attribute_groups) == ATTRIBUTE_GROUPS
    assert len(split.records) == 6
    questions, captions = (
        read_questions(made / "questions.jsonl"),
        read_captions(made / "captions.jsonl"),
    )
    assert len(captions) == 12
    assert len({example.example_id for example in questions}) == len(questions) >= 20
    assert all((made / "images" / example.image_ids[0]).is_file() for example in questions)


def test_boxes_of_a_question_are_those_of_the_object_that_has_the_answer(made: Path) -> None:
    objects = json.loads((made / "objects.json").read_text())
    numbers = {image["file_name"]: image["id"] for image in objects["images"]}
    located = read_located_questions(made / "questions.jsonl")
    families = {row.example.family for row in located if len(row.boxes)}
    assert families == {"what", "color", "size", "material"}
    for example, boxes in located:
        if example.family not in families:
            assert len(boxes) == 0
            continue
        x1, y1, x2, y2 = boxes[0].tolist()
        (found,) = (
            each
            for each in objects["annotations"]
            if each["image_id"] == numbers[example.image_ids[0]]
            and each["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=1e-3)
        )
        names = {OBJECTS[found["category_id"] - 1], *found["attributes"]}
        assert set(example.answers) <= names
        assert len(boxes) == 1


def test_an_interrupted_run_ends_in_the_same_files(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "valid"

    def stop(done: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_dataset(folder, **ARGUMENTS, progress=stop)
    assert not folder.exists()
    records = folder.with_name("valid.partial") / dataset._RECORDS
    records.write_text(records.read_text() + '{"image": "half a li')
    seen: list[int] = []
    make_dataset(folder, **ARGUMENTS, progress=seen.append)
    assert seen[0] >= 4
    assert content(folder) == content(made)


def test_an_existing_folder_is_never_overwritten(made: Path) -> None:
    before = content(made)
    with pytest.raises(FileExistsError, match="exists already"):
        make_dataset(made, **ARGUMENTS)
    assert content(made) == before


def test_a_run_begun_with_other_arguments_is_refused(tmp_path: Path) -> None:
    work = tmp_path / "x.partial"
    work.mkdir()
    (work / dataset._RECORDS).write_text(json.dumps({"split": "valid", "seed": 4}) + "\n")
    with pytest.raises(ValueError, match="begun with"):
        make_dataset(tmp_path / "x", **ARGUMENTS)


@pytest.mark.parametrize(
    "wrong", [{"split": "dev"}, {"count": 0}, {"seed": -1}, {"rounds": 0}, {"captions": -1}]
)
def test_impossible_requests_are_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"expected one of|at least"):
        make_dataset(tmp_path / "x", **(ARGUMENTS | wrong))
    assert list(tmp_path.iterdir()) == [], "what is left would stand in the way of a right call"
