"""COCO annotations are read completely, and all problems are reported."""

import copy
import json
import logging

import numpy as np
import pytest
from PIL import Image

from lxmert.data.coco import Names, read_coco

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
    """Return a function that writes annotations next to their images, and reads them."""
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
    assert "crowd annotations, which are not single objects: 1; left out" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed("annotations", 1, category_id=8), "annotation 2 has the category 8, which is not"),
        (changed("annotations", 1, image_id=8), "annotation 2 belongs to image 8, which is not in"),
        (changed("annotations", 1, attributes=["gold"]), "annotation 2 has the attribute 'gold'"),
        (changed("annotations", 1, bbox=[33, 0, 9, 9]), r"has the bbox \[33, 0, 9, 9\]; .*40 x 30"),
        (changed("annotations", 1, bbox=[3, -2, 9, 9]), r"has the bbox \[3, -2, 9, 9\]"),
        (changed("annotations", 1, bbox=[3, 3, -2, 9]), r"has the bbox \[3, 3, -2, 9\]"),
        (changed("annotations", 1, bbox=[60, 3, 0, 9]), r"has the bbox \[60, 3, 0, 9\]"),
        (CONTENT | {"attribute_groups": {"a": ["red"], "b": ["red"]}}, "'red' is listed twice"),
        (CONTENT | {"attribute_groups": {"a": []}}, "unusable attribute groups: 1; expected lists"),
        (CONTENT | {"attribute_groups": {"a": ["red", 5]}}, "unusable attribute groups: 1"),
        (CONTENT | {"attribute_groups": "color"}, "unusable attribute groups: 1"),
        ({"images": [], "categories": []}, "has no list `annotations`"),
        ([], "has no list `images`"),
    ],
)
def test_what_contradicts_itself_is_named(read, content, message):
    with pytest.raises(ValueError, match=message):
        read(content)


def test_missing_images_are_counted_and_the_first_is_named(read):
    with pytest.raises(FileNotFoundError, match=r"image files that do not exist: 1.*gone\.png"):
        read(changed("images", 1, file_name="gone.png"))


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.json.*are not a file"):
        read_coco(tmp_path / "no.json", image_folder=tmp_path)
    (tmp_path / "half.json").write_text('{"images": [')
    with pytest.raises(ValueError, match=r"half\.json is not valid JSON"):
        read_coco(tmp_path / "half.json", image_folder=tmp_path)


def without(kind, index, key):
    content = copy.deepcopy(CONTENT)
    del content[kind][index][key]
    return content


def replaced(kind, index, entry):
    content = copy.deepcopy(CONTENT)
    content[kind][index] = entry
    return content


BROKEN = [
    (replaced("images", 0, 5), r"image number 1 of the list is 5; expected an object"),
    (replaced("images", 0, None), r"image number 1 of the list is null"),
    (without("images", 0, "id"), r"image number 1 of the list has no id"),
    (changed("images", 0, id=[1]), r"has the id \[1\]; expected an integer or a string"),
    (changed("images", 0, id=True), r"has the id true"),
    (without("images", 0, "height"), r"image 71 has no height; expected a number of pixels"),
    (changed("images", 0, height=None), r"image 71 has the height null"),
    (changed("images", 0, width="40"), r"image 71 has the width \"40\""),
    (changed("images", 0, width=0), r"image 71 has the width 0"),
    (changed("images", 0, width=1e300), r"image 71 has the width 1e\+300"),
    (changed("images", 0, height=10**400), r"objects.json is not usable JSON \(an integer of 401"),
    (without("images", 0, "file_name"), r"image 71 has no file_name"),
    (changed("images", 0, file_name=7), r"image 71 has the file_name 7"),
    (changed("images", 0, file_name="../outside.png"), r"image 71 has an invalid file_name"),
    (changed("images", 0, file_name="/etc/passwd"), r"image 71 has an invalid file_name"),
    (changed("images", 1, id=71), r"image 71 is listed twice"),
    (changed("images", 1, file_name="sub/b.png"), r"the file 'sub/b.png' is listed twice"),
    (replaced("categories", 0, "mug"), r"category number 1 of the list is \"mug\""),
    (without("categories", 0, "name"), r"category 9 has no name"),
    (changed("categories", 0, name=" "), r"category 9 has the name \" \""),
    (changed("categories", 0, id={}), r"has the id {}"),
    (changed("categories", 1, id=9), r"category 9 is listed twice"),
    (changed("categories", 1, name="mug"), r"the category name 'mug' is listed twice"),
    (
        replaced("annotations", 1, []),
        r"annotation number 2 of the list is \[\]; expected an object",
    ),
    (without("annotations", 1, "image_id"), r"annotation 2 has no image_id"),
    (changed("annotations", 1, image_id=[71]), r"annotation 2 has the image_id \[71\]"),
    (changed("annotations", 1, image_id="71"), r"annotation 2 belongs to image '71', which is not"),
    (without("annotations", 1, "category_id"), r"annotation 2 has no category_id"),
    (
        without("annotations", 1, "bbox"),
        r"annotation 2 has no bbox; expected \[x, y, width, height",
    ),
    (changed("annotations", 1, bbox=[]), r"annotation 2 has the bbox \[\]"),
    (changed("annotations", 1, bbox=[1, 2, 3, 4, 5]), r"annotation 2 has the bbox \[1, 2, 3, 4, 5"),
    (changed("annotations", 1, bbox=["1", 2, 3, 4]), r"annotation 2 has the bbox \[\"1\", 2, 3"),
    (changed("annotations", 1, bbox=[1e300, 2, 3, 4]), r"annotation 2 has the bbox \[1e\+300"),
    (
        changed("annotations", 1, attributes=[{"name": "red"}]),
        r"annotation 2 has the attributes \[",
    ),
    (changed("annotations", 1, attributes="red"), r"annotation 2 has the attributes \"red\""),
    (changed("annotations", 1, visible="half"), r"annotation 2 has the visible \"half\""),
    (CONTENT | {"annotations": []}, r"files without a usable box: 1"),
    (CONTENT | {"images": [], "annotations": []}, r"files without a usable box: 1"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BROKEN)
def test_entries_that_cannot_be_used_are_named(read, content, message):
    """Bug: they ended in tracebacks, or an image outside of the folder was read."""
    with pytest.raises(ValueError, match=message):
        read(content)


def test_all_reasons_are_given_at_once_with_their_counts(read):
    """Bug: only the first problem was reported, and after its correction the next."""
    content = copy.deepcopy(CONTENT)
    del content["images"][2]["height"]
    for annotation in content["annotations"]:
        annotation["bbox"] = [1, 2]
    with pytest.raises(
        ValueError,
        match=r"file name or size: 1; .*image 72 has no height.*outside of their image: 3; ",
    ):
        read(content)


@pytest.mark.parametrize(
    "bbox", [[1, 2, 10, 0.0], [1, 2, 0, 10], [1, 2, 0, 0], [40, 3, 1, 9], [1, 2, 1e-9, 9]]
)
def test_boxes_without_an_area_are_left_out_and_counted(read, bbox, caplog):
    """Bug: COCO 2017 has two such boxes, and the complete file was rejected."""
    split = read(changed("annotations", 1, bbox=bbox))
    assert [len(record.boxes) for record in split.records] == [0, 2, 0]
    assert "boxes without an area: 1; left out (annotation 2 has the bbox" in caplog.text


@pytest.mark.parametrize(
    ("attributes", "names"),
    [
        (None, ()),
        ({}, ()),
        ({"occluded": False, "color": "red"}, ("red",)),
        ({"occluded": True, "track_id": 5, "rotation": 0.5}, ()),
        (["red"], ("red",)),
    ],
)
def test_attributes_of_annotation_tools(read, attributes, names):
    """Bug: the flag "occluded" of CVAT was learned as an attribute; null was a TypeError."""
    content = copy.deepcopy(CONTENT)
    del content["attribute_groups"]
    for annotation in content["annotations"]:
        annotation["attributes"] = attributes
    split = read(content)
    assert split.attribute_groups == ({"attribute": names} if names else {})


def test_an_image_of_another_size_once_upright_is_found_at_the_start(read, tmp_path):
    """Bug: training stopped only when it reached the image."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (40, 30)).save(tmp_path / "images" / "a.png", exif=exif)
    with pytest.raises(
        ValueError, match=r"upright size.*: 1; .*a.png has \(40, 30\) pixels .*annotations have"
    ):
        read(CONTENT)
    upright = changed("images", 1, height=40, width=30)
    upright["annotations"][2]["bbox"] = [5, 30, 10.5, 10]
    assert read(upright).records[1].image_size == (40, 30)


def test_an_image_that_is_none_is_found_at_the_start(read, tmp_path):
    """Bug: training stopped only when it reached the image."""
    (tmp_path / "images" / "a.png").write_text("no image")
    with pytest.raises(ValueError, match=r"images that cannot be read: 1; .*a\.png, which is"):
        read(CONTENT)


KNOWN = Names(("cup", "hat", "mug"), {"tone": ("red", "green", "blue"), "size": ("large",)})


def test_names_of_a_model_decide_the_ids(tmp_path, read):
    """Bug: ids were compared: in another category order mAP 0.974 became 0.000."""
    read(CONTENT)
    split = read_coco(tmp_path / "objects.json", image_folder=tmp_path / "images", known=KNOWN)
    assert (split.object_names, split.attribute_groups) == KNOWN
    np.testing.assert_array_equal(split.records[1].object_ids, [1, 2])
    np.testing.assert_array_equal(split.records[1].attribute_ids, [[0, 3], [2, -1]])


def test_names_that_a_model_does_not_know_are_named_and_left_out(tmp_path, read, caplog):
    """Bug: an unknown category "zebra" silently counted as never found."""
    content = changed("categories", 1, name="zebra")
    content["annotations"][1]["attributes"] = ["small"]
    read(content)
    path = tmp_path / "objects.json"
    split = read_coco(path, image_folder=tmp_path / "images", known=KNOWN)
    assert [record.object_ids.tolist() for record in split.records] == [[2], [2], []]
    assert "categories that the model does not know: 1; left out of all scores ('zebra')" in (
        caplog.text
    )
    assert "attributes that the model does not know: 1; left out of all scores ('small')" in (
        caplog.text
    )
    with pytest.raises(ValueError, match=r"files without a category of the model: 1; .*'dog'"):
        read_coco(path, image_folder=tmp_path / "images", known=Names(("dog",), {}))
