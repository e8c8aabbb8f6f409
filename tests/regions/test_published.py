"""The published detector loaded from its files: names, regions, and saved folders."""

import pytest
import torch
from conftest import ASSETS
from regions.published import YAML, detectron2_bytes, full_geometry, random_state, write_huggingface

from lxmert import DetectorExtractor, load_extractor, load_published_detector
from lxmert.regions import published
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.published import ATTRIBUTES_FILE, OBJECTS_FILE, read_names

OBJECTS = [f"thing {index}" for index in range(1600)]
FULL_YAML = YAML.replace("num_classes: 9", "num_classes: 1600").replace(
    "num_attrs: 5", "num_attrs: 400"
)
ATTRIBUTES = [f"kind {index}" for index in range(400)]


@pytest.fixture(scope="module")
def state():
    return random_state(shapes=full_geometry())


@pytest.fixture(scope="module")
def folder(state, tmp_path_factory):
    folder = tmp_path_factory.mktemp("huggingface")
    write_huggingface(folder, state, FULL_YAML)
    return folder


@pytest.mark.long
def test_each_file_of_the_detector_opens_as_the_same_extractor(state, folder, tmp_path):
    path = tmp_path / "faster_rcnn_from_caffe_attr.pkl"
    path.write_bytes(detectron2_bytes(state))
    extractor = load_extractor(folder)
    assert isinstance(extractor, DetectorExtractor)
    fingerprint = extractor.fingerprint
    config = extractor.detector.config
    names = read_names(ASSETS / "vg_objects_vocab.txt")
    attributes = read_names(ASSETS / "vg_attributes_vocab.txt")
    assert config == DetectorConfig.preset("caffe", object_names=names, attribute_names=attributes)
    assert list(extractor.attribute_groups) == ["attribute"]
    assert load_extractor(path).fingerprint == fingerprint
    assert extractor.feature_dim == 2048
    extractor.save_pretrained(tmp_path / "extractor")
    assert load_extractor(tmp_path / "extractor").fingerprint == fingerprint


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:the weights bring anchors")
def test_names_are_read_beside_the_weights_or_given(state, tmp_path, monkeypatch):
    write_huggingface(tmp_path, state, FULL_YAML)
    (tmp_path / OBJECTS_FILE).write_text("\n".join(f"{name},synonym" for name in OBJECTS))
    detector = load_published_detector(tmp_path, preset="detectron2", attribute_names=ATTRIBUTES)
    assert detector.config == DetectorConfig.preset(
        "detectron2", object_names=OBJECTS, attribute_names=ATTRIBUTES
    )
    for name, value in detector.state_dict().items():
        assert torch.equal(value, state[name]), name
    # What follows needs no second look at the weights.
    loaded = published.load_published(tmp_path)
    monkeypatch.setattr(published, "load_published", lambda path: loaded)
    (tmp_path / ATTRIBUTES_FILE).write_text("red\nold\n")
    with pytest.raises(ValueError, match=r"got 2 names in .*attributes_vocab\.txt; expected 400"):
        load_published_detector(tmp_path)
    with pytest.raises(ValueError, match="got 1599 names in object_names; expected 1600"):
        load_published_detector(tmp_path, object_names=OBJECTS[1:], attribute_names=ATTRIBUTES)
    with pytest.raises(ValueError, match="the preset is 'bogus'"):
        load_published_detector(tmp_path, preset="bogus", attribute_names=ATTRIBUTES)


def test_a_line_is_a_name_with_its_synonyms(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("gray,grey\nmulti colored,multi-colored\nred\n")
    assert read_names(path) == ("gray", "multi colored", "red")
    path.write_text("gray\n\nred")
    with pytest.raises(ValueError, match="line 2, is empty"):
        read_names(path)


def test_the_published_lists_have_a_name_for_each_class():
    files = [ASSETS / "vg_objects_vocab.txt", ASSETS / "vg_attributes_vocab.txt"]
    objects, attributes = map(read_names, files)
    assert (len(objects), len(attributes)) == (1600, 400)
    assert (objects[0], objects[-1]) == ("yolk", files[0].read_text().splitlines()[-1])
    assert attributes[:3] == ("gray", "multi colored", "double decker")
    assert not any("," in name for name in objects + attributes)


def test_a_path_to_nothing_is_named(tmp_path):
    for path in (tmp_path / "nothing.caffemodel", tmp_path):
        with pytest.raises(FileNotFoundError, match=str(path)):
            load_extractor(path)
    (tmp_path / "weights.caffemodel").write_bytes(b"no weights at all")
    with pytest.raises(ValueError, match="not a weights format"):
        load_extractor(tmp_path / "weights.caffemodel")
