"""The boxes of questions, as a detector is trained on them."""

from pathlib import Path

import pytest
from conftest import Command
from squares import write_lines, write_squares

from lxmert.data.coco import read_coco
from lxmert.lab.worlds.suite import make_world


def test_the_boxes_of_a_world_are_those_of_its_things(tmp_path: Path, lxmert: Command) -> None:
    make_world("many-things", tmp_path / "world", images=20, boxes=True)
    output, images = tmp_path / "boxes.json", tmp_path / "world/images"
    done = lxmert("data", "boxes", tmp_path / "world/train.jsonl", "--images", images, "-o", output)
    split = read_coco(output, image_folder=images)
    boxes = sum(len(record.boxes) for record in split.records)
    assert done.out == f"{output}: {boxes} boxes in 20 images\n"
    assert (split.object_names, len(split.records)) == (("object",), 20)
    assert 20 <= boxes <= 160  # eight questions an image, about one thing at most


def test_the_same_box_of_two_questions_is_one(tmp_path: Path, lxmert: Command) -> None:
    world = write_squares(tmp_path / "world", 4)
    line = {"image": "3.PNG", "question": "What?", "boxes": [[1, 2, 30, 40]]}
    lines = [
        line,
        line,
        line | {"boxes": [[1, 2, 30, 40], [0, 0, 9.5, 9]]},
        {**line, "boxes": None},
    ]
    write_lines(world / "q.jsonl", lines)
    command = ("data", "boxes", world / "q.jsonl", "--images", world / "images")
    assert lxmert(*command, "-o", tmp_path / "b.json").code == 0
    (record,) = read_coco(tmp_path / "b.json", image_folder=world / "images").records
    assert record.image_id == "3.png"
    assert record.boxes.tolist() == [[1, 2, 30, 40], [0, 0, 9.5, 9]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "no question with boxes, expected some lines with 'boxes'"),
        ({"boxes": [[1, 2, 3, 4]], "image": "x.png"}, "'x.png' is not below"),
        ({"boxes": [[1, 2, 300, 40]]}, "outside of their image"),
        ({"boxes": [[9, 2, 3, 4]]}, "line 1: 'boxes' must be a list"),
    ],
)
def test_boxes_that_cannot_be_used_are_one_sentence(
    tmp_path: Path, lxmert: Command, fields: dict[str, object], message: str
) -> None:
    world = write_squares(tmp_path / "world", 4)
    write_lines(world / "q.jsonl", [{"image": "1.png", "question": "What?", **fields}])
    options = ("--images", world / "images", "-o", tmp_path / "b.json")
    done = lxmert("data", "boxes", world / "q.jsonl", *options)
    assert (done.code, message in " ".join(done.err.split())) == (2, True), done.err
    assert not (tmp_path / "b.json").exists()
