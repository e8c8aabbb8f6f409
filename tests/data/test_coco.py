"""Annotations are read completely, and what contradicts itself is named."""

import copy
import json
import logging

import numpy as np
import pytest
from PIL import Image

from lxmert.data.coco import read_coco

CONTENT = {
    "images": [
        {"id": 71, "file_name": "sub/b.png", "height": 30, "width": 40},
        {"id": 70, "file_name": "a.png", "height": 30, "width": 40},
        {"id": 72, "file_name": "empty.png", "height": 30, "width": 40},
    ],
    "categories": [{"id": 9, "name": "mug"}, {"id": 3, "name": "hat"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 70,
            "category_id": 3,
            "bbox": [1, 2, 10, 20],
            "attributes": ["large", "red"],
            "visible": 0.25,
        },
        {"id": 2, "image_id": 71, "category_id": 9, "bbox": [0.5, 0, 8, 8]},
        {
            "id": 3,
            "image_id": 70,
            "category_id": 9,
            "bbox": [30, 20, 10.5, 10],  # half a pixel too wide, as published files are
            "attributes": ["blue"],
        },
    ],
    "attribute_groups": {"color": ["blue", "red"], "size": ["small", "large"]},
}


@pytest.fixture
def read(tmp_path):
    """Return a function that writes a content beside its images, and reads it."""
    for image in CONTENT["images"]:
        path = tmp_path / "images" / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(path)

    def read(content):
        path = tmp_path / "objects.json"
        path.write_text(json.dumps(content))
        return read_coco(path, image_folder=tmp_path / "images")

    return read


def changed(kind, index, **changes):
    content = copy.deepcopy(CONTENT)
    content[kind][index].update(changes)
    return content


def test_everything_is_read(read, tmp_path):
    split = read(CONTENT)
    assert split.object_names == ("mug", "hat")
    assert split.attribute_groups == {"color": ("blue", "red"), "size": ("small", "large")}
    assert [record.image_id for record in split.records] == ["sub/b.png", "a.png", "empty.png"]
    record = split.records[1]
    assert record.image_path == tmp_path / "images" / "a.png"
    assert record.image_size == (30, 40)
    np.testing.assert_array_equal(record.boxes, [[1, 2, 11, 22], [30, 20, 40, 30]])
    assert record.boxes.dtype == np.float32
    np.testing.assert_array_equal(record.object_ids, [1, 0])
    np.testing.assert_array_equal(record.attribute_ids, [[1, 3], [0, -1]])
    np.testing.assert_array_equal(record.visible, np.float32([0.25, 1.0]))


def test_image_without_objects_keeps_its_shapes(read):
    record = read(CONTENT).records[2]
    assert record.boxes.shape == (0, 4)
    assert record.object_ids.shape == record.visible.shape == (0,)
    assert record.attribute_ids.shape == (0, 2)


def test_without_groups_all_attributes_in_use_are_one(read):
    content = copy.deepcopy(CONTENT)
    del content["attribute_groups"]
    split = read(content)
    assert split.attribute_groups == {"attribute": ("blue", "large", "red")}
    # Of several attributes in one group the first named counts.
    np.testing.assert_array_equal(split.records[1].attribute_ids, [[1], [0]])


def test_plain_coco_has_no_attributes(read):
    content = copy.deepcopy(CONTENT)
    del content["attribute_groups"]
    for annotation in content["annotations"]:
        annotation.pop("attributes", None)
    split = read(content)
    assert split.attribute_groups == {}
    assert split.records[1].attribute_ids.shape == (2, 0)


def test_crowds_are_left_out_and_counted(read, caplog):
    with caplog.at_level(logging.INFO):
        split = read(changed("annotations", 1, iscrowd=1))
    assert len(split.records[0].boxes) == 0
    assert "left out 1 crowd annotations" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed("annotations", 1, category_id=8), "annotation 2 has the category 8, which is not"),
        (changed("annotations", 1, image_id=8), "annotation 2 belongs to image 8, which is not in"),
        (changed("annotations", 1, attributes=["gold"]), "annotation 2 has the attribute 'gold'"),
        (changed("annotations", 1, bbox=[33, 0, 9, 9]), r"has the bbox \[33, 0, 9, 9\]; .*40 x 30"),
        (changed("annotations", 1, bbox=[3, -2, 9, 9]), r"has the bbox \[3, -2, 9, 9\]"),
        (changed("annotations", 1, bbox=[3, 3, 0, 9]), r"has the bbox \[3, 3, 0, 9\]"),
        (changed("annotations", 1, bbox=[40, 3, 1, 9]), r"has the bbox \[40, 3, 1, 9\]"),
        (CONTENT | {"attribute_groups": {"a": ["red"], "b": ["red"]}}, "'red' is named twice"),
        (CONTENT | {"attribute_groups": {"a": []}}, "expected a name and a list of attributes"),
        ({"images": [], "categories": []}, "has no list `annotations`"),
        ([], "has no list `images`"),
    ],
)
def test_what_contradicts_itself_is_named(read, content, message):
    with pytest.raises(ValueError, match=message):
        read(content)


def test_missing_images_are_counted_and_the_first_is_named(read):
    with pytest.raises(FileNotFoundError, match=r"names 1 images that are no files.*gone\.png"):
        read(changed("images", 1, file_name="gone.png"))


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.json.*which is no file"):
        read_coco(tmp_path / "no.json", image_folder=tmp_path)
    (tmp_path / "half.json").write_text('{"images": [')
    with pytest.raises(ValueError, match=r"half\.json is not valid JSON"):
        read_coco(tmp_path / "half.json", image_folder=tmp_path)
