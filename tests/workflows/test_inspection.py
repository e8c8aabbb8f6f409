"""What `lxmert info` finds out, on models of every kind with known sizes."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from model import published, tiny

from lxmert.model.answers import name_answers
from lxmert.model.loading import empty_model
from lxmert.model.original import to_original
from lxmert.workflows.inspection import inspect

DEFAULT = ROOT / "src/lxmert/default"


def test_a_file_of_the_original_code_is_described_by_its_shapes(tmp_path):
    path = tmp_path / "model_LXRT.pth"
    model = tiny.build_reference("LxmertForPreTraining")
    published.write(path, published.state_of_2019(model, outer="module."))
    report = inspect(path)
    assert (report.kind, report.facts["model"]) == (
        "original checkpoint",
        "LxmertForPreTraining",
    )
    assert report.facts["layers"] == "2 language, 1 region, 3 cross-modality"
    assert report.facts["attention heads"] == "unknown: convert it with --heads N"
    assert report.facts["answers"] == 13
    expected = ["masked words", "matching", "objects", "attributes", "features", "answers"]
    assert report.facts["objectives"] == expected
    assert sum(report.parameters.values()) == sum(p.numel() for p in model.parameters())
    assert report.parameters["pooler"] == 33 * 32
    assert len(report.notes) == 1
    assert "13 answers have no names" in report.notes[0]


@pytest.mark.parametrize(("kind", "parameters"), [("pairs", 210_303_746), ("encoder", 207_936_768)])
def test_full_size_is_described_without_being_read(kind, parameters, tmp_path):
    """A file with the empty_model of the tensors takes the same path as one with their values."""
    state = to_original(kind, empty_model(kind, tiny.LxmertConfig()).state_dict())
    empty = {name: torch.empty(value.shape) for name, value in state.items()}
    with torch.serialization.skip_data():  # a file of holes, that takes no space
        published.write(tmp_path / "BEST.pth", empty, zipped=True)
    report = inspect(tmp_path / "BEST.pth")
    assert sum(report.parameters.values()) == parameters
    assert report.facts["attention heads"] == "12, by hidden size; not stored in the file"
    assert report.notes == ()


@pytest.mark.parametrize("name", tiny.OURS)
def test_a_model_folder_is_described(name, tmp_path):
    model = tiny.build(name)
    if hasattr(model, "answer_head"):
        name_answers(model.config, [*"abcdefghijklm"])
    model.save_pretrained(tmp_path)
    report = inspect(tmp_path)
    assert (report.kind, report.facts["model"]) == ("model folder", name)
    assert sum(report.parameters.values()) == sum(p.numel() for p in model.parameters())
    assert "other" not in report.parameters
    assert report.notes == ()
    if hasattr(model, "answer_head"):
        assert report.facts["answers"] == [*"abcdefghijklm"]
    assert report.facts["tokenizer"] == "not in this folder"
    assert report.facts["extractor"] == "not named in this folder"


def test_the_published_bin_counts_its_shared_weight_once(tmp_path):
    model = tiny.build_reference("LxmertForPreTraining")
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    report = inspect(tmp_path)
    assert sum(report.parameters.values()) == sum(p.numel() for p in model.parameters())


def test_a_misfit_is_a_problem(tmp_path):
    tiny.build("LxmertForQuestionAnswering").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"x_layers": 4}))
    (problem,) = inspect(tmp_path).problems
    assert "does not fill" in problem
    assert "tensors 42 missing: lxmert.encoder.x_layers.3.lang_inter.dense.bias, " in problem


def test_the_bundled_model_is_described_with_its_extractor(tmp_path):
    report = inspect(DEFAULT)
    prepared = json.loads((DEFAULT / "preprocessor_config.json").read_text())
    assert report.facts["extractor"] == f"{prepared['fingerprint']}, in extractor"
    config = json.loads((DEFAULT / "config.json").read_text())
    assert len(report.facts["answers"]) == config["num_qa_labels"]
    assert report.facts["tokenizer"] == f"{config['vocab_size']} word pieces"
    assert report.notes == ()
    extractor = inspect(DEFAULT / "extractor")
    assert (extractor.kind, extractor.facts["fingerprint"]) == (
        "detector folder",
        prepared["fingerprint"],
    )
    assert len(extractor.facts["objects"]) == 16
    other = tmp_path / "model"
    shutil.copytree(DEFAULT, other)
    (other / "preprocessor_config.json").write_text(
        json.dumps(prepared | {"fingerprint": "8" * 16})
    )
    assert f"expects {'8' * 16}" in inspect(other).problems[0]
    shutil.rmtree(other / "extractor")
    assert inspect(other).facts["extractor"] == f"{'8' * 16}, not in this folder"


def test_a_tokenizer_is_described(tmp_path):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(DEFAULT / name, tmp_path)
    report = inspect(tmp_path)
    words = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    assert (report.kind, report.facts) == ("tokenizer", {"vocabulary": f"{len(words)} word pieces"})
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\nred\n")
    assert inspect(tmp_path).facts == {"vocabulary": "3 word pieces"}


def test_a_region_store_is_described(tmp_path):
    import numpy as np

    from lxmert.data.store import RegionStore, StoreHeader
    from lxmert.schema import Regions

    regions = Regions(
        boxes=np.array([[1, 2, 3, 4], [2, 2, 5, 6]], np.float32),
        features=np.ones((2, 3), np.float32),
        image_size=(9, 8),
        object_ids=np.array([1, 0]),
        object_scores=np.array([0.5, 0.25], np.float32),
        attribute_ids=np.array([[0], [0]]),
        attribute_scores=np.array([[0.5], [0.25]], np.float32),
    )
    header = StoreHeader(
        fingerprint="8" * 16,
        feature_dim=3,
        dtype="float16",
        precision="fp32",
        object_names=("ball", "mug"),
        attribute_names=("red",),
    )
    names = ["a.png", "b.png"]
    RegionStore.write(tmp_path / "s", names, lambda rest: ((i, regions) for i in rest), header)
    report = inspect(tmp_path / "s")
    assert report.kind == "region store"
    found = [report.facts[name] for name in ("images", "regions", "fingerprint", "feature dim")]
    assert found == [2, 4, "8" * 16, 3]


def test_a_report_is_json(tmp_path):
    values = json.loads(json.dumps(inspect(DEFAULT).to_dict()))
    assert values.keys() == {
        "path",
        "kind",
        "facts",
        "parameters",
        "notes",
        "problems",
        "num_parameters",
    }
    assert values["num_parameters"] == sum(values["parameters"].values()) > 2_000_000


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["BEST.pth", "model/pytorch_model.bin"])
def test_code_in_a_file_is_never_run(name, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    tiny.config().save_pretrained(path.parent)
    torch.save({"a": Payload(tmp_path / "proof")}, path)
    with pytest.raises(ValueError, match="nothing was run"):
        inspect(path if name == "BEST.pth" else path.parent)
    assert not (tmp_path / "proof").exists()


def test_foreign_files_are_refused_with_what_was_expected(tmp_path):
    for name, content in [("a.txt", b"hello"), ("b.zip", b"PK\x03\x04"), ("c.pth", b"")]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            inspect(tmp_path / name)
    with pytest.raises(ValueError, match="expected a model folder, an original checkpoint"):
        inspect(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no .*nowhere"):
        inspect(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match='a model of type "bert"'):
        inspect(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": ')
    with pytest.raises(ValueError, match=r"config\.json is not valid JSON"):
        inspect(tmp_path)
    with pytest.raises(ValueError, match="one file of a model: name its folder"):
        inspect(DEFAULT / "model.safetensors")
    torch.save({"lxmert.encoder.visn_fc.box_fc.bias": torch.zeros(2)}, Path(tmp_path / "d.bin"))
    with pytest.raises(ValueError, match="give its folder instead"):
        inspect(tmp_path / "d.bin")


VINVL = {
    "json": b'42\t{"image_h": 480, "image_w": 640, "objects": []}\n',
    "list": b'42\t[{"class": "dog", "rect": [1, 2, 3, 4], "conf": 0.5}]\n',
    "features": b"42\t2\t" + b"AAAA" * 40_000 + b"\n",
}
OTHER_LAYOUTS = {
    "regions.h5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5 file"),
    "regions.hdf5": (b"\x89HDF\r\n\x1a\n\x02", "HDF5 file"),
    "data.mdb": (bytes(16) + b"\xde\xc0\xef\xbe\x01\0\0\0" + bytes(99), "LMDB database"),
    "regions.lmdb": (bytes(16) + b"\xbe\xef\xc0\xde" + bytes(99), "LMDB database"),
    **{f"{name}.tsv": (content, "VinVL") for name, content in VINVL.items()},
}


@pytest.mark.parametrize("name", OTHER_LAYOUTS)
@pytest.mark.parametrize("whole_folder", [False, True])
def test_layouts_that_are_not_read_are_named_with_what_to_do(name, whole_folder, tmp_path):
    """Bug: HDF5, LMDB and VinVL's files were "nothing that is known here", or damaged TSV files."""
    from lxmert.workflows.conversion import convert

    content, layout = OTHER_LAYOUTS[name]
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / name).write_bytes(content)
    (folder / "readme.txt").write_text("of\twhom\tno matter\n")
    source = folder if whole_folder else folder / name
    message = rf"{name} is .*{layout}.*, which is not supported .* one \.npz file per image"
    for act in (inspect, lambda source: convert(source, tmp_path / "out")):
        with pytest.raises(ValueError, match=message):
            act(source)
    assert not (tmp_path / "out").exists()


def test_region_files_of_other_programs_are_described_by_their_first_image(tmp_path):
    from test_conversion import write_rows

    rows = write_rows(tmp_path / "rows.tsv")
    report = inspect(rows)
    assert report.kind == "TSV file of regions"
    found = [
        report.facts[name] for name in ("first image", "regions of first image", "region feature")
    ]
    assert found == ["image0", "2", 6]
    rows.write_text("name\tno region\n")
    assert inspect(rows).facts["regions of first image"] == "unknown"

    import numpy as np

    (tmp_path / "files" / "more").mkdir(parents=True)
    boxes = np.zeros((4, 4), np.float32)
    np.savez(tmp_path / "files" / "more" / "a.npz", x=np.ones((5, 4)), bbox=boxes)
    report = inspect(tmp_path / "files")
    assert report.kind == "folder of .npz files"
    assert report.facts == {"files": 1, "first image": "more/a", "region feature": 5}


def test_extractor_of_other_kinds_are_described(tmp_path):
    from lxmert.regions.grid import GridConfig, GridExtractor, GridNetwork

    extractor = GridExtractor(
        GridNetwork(GridConfig(height=16, width=16, widths=(8,), feature_dim=24))
    )
    extractor.save_pretrained(tmp_path)
    report = inspect(tmp_path)
    assert report.kind == "extractor folder"
    assert report.facts["fingerprint"] == extractor.fingerprint
    assert report.facts["region feature"] == 24


def test_failures_of_a_store_are_noted(tmp_path):
    from lxmert.data.store import RegionStore, StoreHeader
    from lxmert.schema import Failure

    header = StoreHeader(
        fingerprint="8" * 16,
        feature_dim=3,
        dtype="float16",
        precision="fp32",
        object_names=("ball",),
        attribute_names=(),
    )
    failure = Failure("a.png", "a.png is no image")
    RegionStore.write(tmp_path / "s", ["a.png"], lambda rest: [failure], header)
    notes = inspect(tmp_path / "s").notes
    assert notes == ("no regions of 1 image, the first: a.png is no image",)
