"""Conversions there and back: the same outputs, the same bits, nothing overwritten."""

import base64
import json
import os
import resource
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ASSETS, ROOT
from model import published, tiny
from torch.testing import assert_close

from lxmert.data.arrays import normalize_boxes
from lxmert.data.collate import collate_inputs
from lxmert.data.store import RegionStore
from lxmert.model.answers import answers_of
from lxmert.model.configuration import LxmertConfig
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.model.loading import load_model
from lxmert.schema import Failure, Regions
from lxmert.workflows.conversion import CONVERSIONS, ConversionOptions, convert
from lxmert.workflows.inspection import INSPECTORS, inspect

OLD_STORE = ASSETS / "old_store"
DEFAULT = ROOT / "src/lxmert/default"


@pytest.fixture
def best(tmp_path):
    """A fine-tuned file of the original code, of a width from which its heads can be reported."""
    model = tiny.build_reference(
        "LxmertForQuestionAnswering", hidden_size=128, num_attention_heads=2
    )
    published.write(tmp_path / "BEST.pth", published.state_of_2019(model, inner="module."))
    return tmp_path / "BEST.pth", model


def write_answers(path: Path, count: int = 13) -> Path:
    path.write_text(json.dumps([f"answer {index}" for index in range(count)]))
    return path


def test_a_file_of_the_original_code_becomes_a_folder_for_transformers_too(best, tmp_path):
    path, theirs = best
    notes, _ = convert(
        path, tmp_path / "out", ConversionOptions(answers=write_answers(tmp_path / "list.json"))
    )
    folder = tmp_path / "out"
    assert {"config.json", "model.safetensors"} <= {file.name for file in folder.iterdir()}
    loaded, found = type(theirs).from_pretrained(folder, output_loading_info=True)
    assert not any(found[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    given = tiny.inputs()
    expected = theirs(**given).question_answering_score
    assert_close(loaded.eval()(**given).question_answering_score, expected)
    assert_close(load_model(folder)(**given).question_answering_score, expected)
    config = LxmertConfig.from_pretrained(folder)
    assert answers_of(config) == tuple(f"answer {index}" for index in range(13))
    assert config.architectures == ["LxmertForQuestionAnswering"]
    assert any("2 attention heads, assumed" in note for note in notes)
    assert any("no tokenizer and no extractor, which answering needs" in note for note in notes)


def test_the_way_back_gives_the_same_bits(best, tmp_path):
    path, model = best
    convert(path, tmp_path / "out")
    convert(tmp_path / "out", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    expected = published.state_of_2019(model)
    assert back.keys() == expected.keys()
    assert all(torch.equal(back[name], value) for name, value in expected.items())


def test_without_answers_a_note_says_what_to_do(best, tmp_path):
    notes, _ = convert(best[0], tmp_path / "out")
    assert "its 13 answers have no names: convert again with --answers LIST" in notes[0]
    named = ConversionOptions(answers=write_answers(tmp_path / "list.json"))
    assert convert(tmp_path / "out", tmp_path / "named", named) == ([], [])
    assert answers_of(LxmertConfig.from_pretrained(tmp_path / "named"))[12] == "answer 12"


def test_a_bin_folder_becomes_a_safetensors_folder_with_all_that_lies_in_it(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    model = tiny.build_reference("LxmertForPreTraining")
    model.config.save_pretrained(source)
    torch.save(model.state_dict(), source / "pytorch_model.bin")
    (source / "vocab.txt").write_text("[PAD]\n")
    (source / "tf_model.h5").write_text("weights of another library")
    shutil.copytree(DEFAULT / "extractor", source / "extractor")
    convert(source, target)
    found = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert found == {
        "README.md",
        "config.json",
        "model.safetensors",
        "vocab.txt",
        "extractor/config.json",
        "extractor/model.safetensors",
    }
    given = tiny.inputs()
    expected = model(**given).prediction_logits
    ours = load_model(target)(**given).prediction_logits
    assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_heads_and_allowed_weights_are_choices(tmp_path):
    state = published.state_of_2019(tiny.build_reference("LxmertForPreTraining"))
    del state["cls.seq_relationship.bias"]
    published.write(tmp_path / "a.pth", state)
    with pytest.raises(ValueError, match="--heads N"):
        convert(tmp_path / "a.pth", tmp_path / "out")
    with pytest.raises(ValueError, match=r"missing: cls\.seq_relationship\.bias"):
        convert(tmp_path / "a.pth", tmp_path / "out", ConversionOptions(heads=4))
    convert(
        tmp_path / "a.pth",
        tmp_path / "out",
        ConversionOptions(heads=4, allow=("cls.seq_relationship",)),
    )
    assert LxmertConfig.from_pretrained(tmp_path / "out").num_attention_heads == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth", "out"]


def test_nothing_is_overwritten_and_nothing_half_written_is_left(best, tmp_path, monkeypatch):
    path, _ = best
    (tmp_path / "mine.pth").write_text("mine")
    (tmp_path / "full").mkdir()
    for name in ("mine.pth", "full"):
        with pytest.raises(FileExistsError, match=f"{name} exists already"):
            convert(path if name == "full" else DEFAULT, tmp_path / name)
    assert (tmp_path / "mine.pth").read_text() == "mine"
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        convert(path, tmp_path / "nowhere" / "out")
    with pytest.raises(ValueError, match="got 2 answers for a model with 13"):
        convert(
            path, tmp_path / "out", ConversionOptions(answers=write_answers(tmp_path / "list", 2))
        )

    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left")

    for name, source, target in [
        ("transformers.PreTrainedModel.save_pretrained", path, "out"),
        ("torch.save", DEFAULT, "out.pth"),
    ]:
        monkeypatch.setattr(name, fail)
        with pytest.raises(OSError, match="no space left"):
            convert(source, tmp_path / target)
    assert {file.name for file in tmp_path.iterdir()} == {"BEST.pth", "mine.pth", "full", "list"}


@pytest.mark.long
@pytest.mark.parametrize("limit", [0, 5_000, 100_000])
@pytest.mark.parametrize("form", ["folder", "copy", ".pth", ".tsv"])
def test_a_disk_that_is_full_leaves_nothing_and_one_sentence(form, limit, tmp_path, best):
    """Bug: a full disk ended in tracebacks of torch and safetensors, and half a file was left."""
    convert(
        write_rows(tmp_path / "a.tsv", feature_dim=9999),
        tmp_path / "s",
        ConversionOptions(fingerprint="x"),
    )
    source = {"folder": best[0], "copy": DEFAULT, ".pth": DEFAULT, ".tsv": tmp_path / "s"}[form]
    target = tmp_path / f"out{form if form.startswith('.') else ''}"
    before = sorted(tmp_path.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OSError, match=rf"^\S*{target.name} cannot be written: [^\n]*$"):
            convert(source, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert sorted(tmp_path.iterdir()) == before


def test_two_writers_of_one_target_do_not_disturb_each_other(tmp_path, best):
    """Bug: the temporary name was that of the process, so that two threads shared it."""
    pid = os.getpid()
    for name in (f".out.{pid}", f".out.pth.{pid}", "out.tsv.part"):
        (tmp_path / name).write_text("of another")
    convert(best[0], tmp_path / "out")
    convert(DEFAULT, tmp_path / "out.pth")
    for name in (f".out.{pid}", f".out.pth.{pid}", "out.tsv.part"):
        assert (tmp_path / name).read_text() == "of another"
    assert "partial" not in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("source", "target", "choices", "message"),
    [
        ("extractor", "out", ConversionOptions(), "detector folder.* cannot be converted to"),
        (".", "out.pth", ConversionOptions(heads=4), "--heads does not apply when .*model folder"),
        (".", "out.pth", ConversionOptions(answers=Path("list")), "--answers does not apply"),
        (".", "out", ConversionOptions(heads=4), "--heads does not apply"),
    ],
)
def test_what_does_not_apply_is_refused(source, target, choices, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        convert(DEFAULT / source, tmp_path / target, choices)
    assert list(tmp_path.iterdir()) == []


def test_answers_for_a_model_without_any_are_refused(tmp_path):
    tiny.build(tiny.PAIRS).save_pretrained(tmp_path / "pairs")
    choices = ConversionOptions(answers=write_answers(tmp_path / "list.json"))
    with pytest.raises(ValueError, match="has no answers: leave it out"):
        convert(tmp_path / "pairs", tmp_path / "out", choices)


def test_a_file_of_the_original_code_that_should_stay_one_is_refused_with_what_it_can_become(
    best, tmp_path
):
    with pytest.raises(ValueError, match="expected a folder"):
        convert(best[0], tmp_path / "again.pth")


def test_every_conversion_starts_from_a_kind_that_is_recognized():
    assert len(CONVERSIONS) >= 6
    for (kind, form), conversion in CONVERSIONS.items():
        assert kind in INSPECTORS
        assert form == "folder" or form.startswith(".")
        assert set(conversion.choices) <= set(ConversionOptions.__dataclass_fields__)


REAL = ASSETS / "train2014_obj36.tsv"


def test_real_rows_become_a_store_and_the_same_bytes_again(tmp_path):
    steps = []
    converted = convert(REAL, tmp_path / "store", progress=lambda *step: steps.append(step))
    assert converted.failures == []
    assert "the regions are assumed to be from bottom-up-attention/caffe-36" in converted.notes[0]
    assert steps[-1] == (REAL.stat().st_size,) * 2
    assert convert(tmp_path / "store", tmp_path / "back.tsv") == ([], [])
    assert (tmp_path / "back.tsv").read_bytes() == REAL.read_bytes()
    half = convert(REAL, tmp_path / "half", ConversionOptions(dtype="float16"))
    assert half.failures == []
    assert RegionStore(tmp_path / "half").header.dtype == "float16"
    notes = convert(tmp_path / "half", tmp_path / "half.tsv").notes
    assert notes == ["the features were float16, and keep that precision in float32"]


@pytest.mark.slow
def test_real_rows_are_read_by_a_model_of_the_published_size(tmp_path):
    convert(REAL, tmp_path / "store")
    store = RegionStore(tmp_path / "store")
    assert len(store) == 2
    regions = [store[image_id] for image_id in store.image_ids]
    boxes = [normalize_boxes(found, name="row") for found in regions]
    features = [found.features for found in regions]
    question = np.array([101, 2054, 2003, 2023, 1029, 102])
    inputs = collate_inputs([question] * 2, features, boxes, pad_id=0)
    torch.manual_seed(0)
    model = LxmertForQuestionAnswering(LxmertConfig(num_qa_labels=3129)).eval()
    with torch.inference_mode():
        scores = model(**inputs).question_answering_score
    assert scores.shape == (2, 3129)
    assert scores.isfinite().all()
    assert (scores - scores[:1]).abs().amax(dim=1)[1:].min() > 1e-3  # each photo has its own


def write_rows(path: Path, *, count: int = 3, feature_dim: int = 6) -> Path:
    """Write rows of two regions, by the format's own rules."""
    generator = np.random.default_rng(5)
    lines = []
    for row in range(count):
        boxes = np.array([[1, 2, 30, 40], [5, 5, 9, 8.5]], "<f4")
        parts = (
            np.array([3, 8], "<i8"),
            np.array([0.5, 0.25], "<f4"),
            np.array([1, 2], "<i8"),
            np.array([0.75, 0.125], "<f4"),
        )
        features = generator.normal(size=(2, feature_dim)).astype("<f4")
        coded = [base64.b64encode(part.tobytes()).decode() for part in (*parts, boxes, features)]
        lines.append("\t".join([f"image{row}", "50", "60", *coded[:4], "2", *coded[4:]]))
    path.write_bytes("".join(f"{line}\r\n" for line in lines).encode())
    return path


def test_rows_of_another_extractor_need_their_name_and_keep_their_width(tmp_path):
    rows = write_rows(tmp_path / "rows.tsv")
    with pytest.raises(
        ValueError, match=r"features of width 6, not the 2048 .* --fingerprint NAME"
    ):
        convert(rows, tmp_path / "store")
    for name, count in (("objects", 9), ("attributes", 3)):
        names = [f"{name} {index}, synonym" for index in range(count)]
        (tmp_path / name).write_text("\n".join(names))
    choices = ConversionOptions(
        fingerprint="mine", objects=tmp_path / "objects", attributes=tmp_path / "attributes"
    )
    assert convert(rows, tmp_path / "store", choices) == ([], [])
    store = RegionStore(tmp_path / "store")
    assert (store.header.fingerprint, store.header.feature_dim) == ("mine", 6)
    assert store.header.object_names[8] == "objects 8"
    assert convert(tmp_path / "store", tmp_path / "back.tsv") == ([], [])
    assert (tmp_path / "back.tsv").read_bytes() == rows.read_bytes()


def test_damaged_rows_fail_alone_and_are_taken_up_when_fixed(tmp_path):
    rows = write_rows(tmp_path / "rows.tsv", count=4)
    whole = rows.read_bytes()
    lines = whole.splitlines(keepends=True)
    lines[2] = lines[2].replace(b"\t50\t", b"\tfifty\t")
    rows.write_bytes(b"".join(lines))
    converted = convert(rows, tmp_path / "store", ConversionOptions(fingerprint="mine"))
    assert [failure.image_id for failure in converted.failures] == ["image2"]
    assert converted.failures[0].reason.startswith("line 3, column img_h")
    rows.write_bytes(whole)
    assert convert(rows, tmp_path / "store", ConversionOptions(fingerprint="mine")) == ([], [])
    assert len(RegionStore(tmp_path / "store")) == 4
    with pytest.raises(FileExistsError, match="finished region store"):
        convert(rows, tmp_path / "store", ConversionOptions(fingerprint="mine"))


def test_a_folder_of_tsv_files_becomes_a_store(tmp_path):
    (tmp_path / "files/more").mkdir(parents=True)
    write_rows(tmp_path / "files/a.tsv", count=3)
    other = write_rows(tmp_path / "files/more/b.tsv", count=5)
    other.write_bytes(other.read_bytes().replace(b"image", b"photo"))
    report = inspect(tmp_path / "files")
    assert report.kind == "folder of TSV files with regions"
    assert (report.facts["files"], report.facts["first image"]) == (2, "image0")
    assert convert(
        tmp_path / "files", tmp_path / "store", ConversionOptions(fingerprint="mine")
    ) == ([], [])
    expected = [f"image{row}" for row in range(3)] + [f"photo{row}" for row in range(5)]
    assert RegionStore(tmp_path / "store").image_ids == expected


def old_regions(number, count):
    """Return the regions that tests/assets/old_store was written with."""
    generator = np.random.default_rng(number)
    return Regions(
        generator.uniform(0, 90, size=(count, 4)).astype(np.float32),
        generator.normal(size=(count, 5)).astype(np.float32),
        (90 + count, 120),
        generator.integers(2, size=count),
        generator.random(count).astype(np.float32),
        generator.integers(2, size=(count, 3)),
        generator.random((count, 3)).astype(np.float32),
        found=count > 1,
    )


def test_a_store_of_the_earlier_format_becomes_one_of_the_present(tmp_path):
    """The asset was written by the code of that format: float16, four images, one a failure."""
    assert inspect(OLD_STORE).kind == "region store in an earlier format"
    converted = convert(OLD_STORE, tmp_path / "store")
    assert converted == ([], [Failure("bad.png", "bad.png is no image")])
    store = RegionStore(tmp_path / "store")
    assert store.image_ids == ["a.png", "é/b.png", "c.png"]
    assert (store.header.dtype, store.header.num_regions) == ("float16", (1, 3))
    for (number, count), image_id in zip([(3, 2), (4, 3), (5, 1)], store.image_ids, strict=True):
        expected, found = old_regions(number, count), store[image_id]
        for name, value in vars(expected).items():
            if name != "features":
                assert np.array_equal(getattr(found, name), value), name
        half = expected.features.astype(np.float16)
        assert np.array_equal(found.features, half.astype(np.float32))
    with pytest.raises(FileExistsError, match="finished region store"):
        convert(OLD_STORE, tmp_path / "store")


@pytest.mark.parametrize("name", ["features.bin", "regions.bin", "ids.bin", "images.bin"])
def test_damaged_images_of_an_earlier_store_fail_alone(tmp_path, name):
    old = tmp_path / "old"
    shutil.copytree(OLD_STORE, old)
    content = bytearray((old / name).read_bytes())
    content[-1] ^= 1
    (old / name).write_bytes(content)
    failures = convert(old, tmp_path / "store").failures
    assert [failure.image_id for failure in failures] == ["image 2", "bad.png"]
    assert "is damaged" in failures[0].reason
    assert RegionStore(tmp_path / "store").image_ids == ["a.png", "é/b.png"]


@pytest.mark.parametrize("header", ["{", "[]", '{"format": 1}', '{"format": 2, "dtype": 3}', None])
def test_a_damaged_header_of_an_earlier_store_is_one_sentence(tmp_path, header):
    old = tmp_path / "old"
    shutil.copytree(OLD_STORE, old)
    (old / "header.json").unlink() if header is None else (old / "header.json").write_text(header)
    with pytest.raises(ValueError, match=r"make (it|the store) again$"):
        convert(old, tmp_path / "store")


def test_a_folder_of_npz_files_becomes_a_store(tmp_path):
    folder = tmp_path / "files"
    (folder / "more").mkdir(parents=True)
    features = np.random.default_rng(3).normal(size=(3, 7)).astype(np.float32)
    boxes = np.array([[1, 2, 3, 4], [2, 2, 5, 6], [0, 0, 8, 9]], np.float32)
    for name in ("a", "more/b"):
        np.savez(folder / f"{name}.npz", x=features, bbox=boxes, image_h=9, image_w=8)
    (folder / "c.npz").write_bytes(b"no archive")
    with pytest.raises(
        ValueError, match=r"do not name their region extractor: .* --fingerprint NAME"
    ):
        convert(folder, tmp_path / "store")
    converted = convert(folder, tmp_path / "store", ConversionOptions(fingerprint="theirs"))
    assert [failure.image_id for failure in converted.failures] == ["c"]
    store = RegionStore(tmp_path / "store")
    assert store.image_ids == ["a", "more/b"]
    np.testing.assert_array_equal(store["a"].features, features)
    assert store.header.fingerprint == "theirs"
    with pytest.raises(ValueError, match=r"--objects does not apply when .*folder of \.npz files"):
        convert(folder, tmp_path / "other", ConversionOptions(fingerprint="x", objects=tmp_path))


@pytest.mark.parametrize("damage", ["cut", "flat", "no array"])
def test_a_damaged_first_npz_file_does_not_spoil_the_others(tmp_path, damage):
    """Bug: the width of all features was guessed when the first file did not tell it."""
    folder = tmp_path / "files"
    folder.mkdir()
    features, boxes = np.ones((2, 7), np.float32), np.array([[1, 2, 3, 4], [2, 2, 5, 6]])
    for name in "abc":
        np.savez(folder / f"{name}.npz", x=features, bbox=boxes, image_h=9, image_w=8)
    if damage == "cut":
        (folder / "a.npz").write_bytes((folder / "a.npz").read_bytes()[:99])
    else:
        arrays = {"x": features[0], "bbox": boxes} if damage == "flat" else {"y": features}
        np.savez(folder / "a.npz", image_h=9, image_w=8, **arrays)
    converted = convert(folder, tmp_path / "store", ConversionOptions(fingerprint="theirs"))
    assert [failure.image_id for failure in converted.failures] == ["a"]
    assert RegionStore(tmp_path / "store").image_ids == ["b", "c"]


@pytest.mark.parametrize("first", [b"\r\n", b"broken\tline\r\n", b"x\t5\t5\t\t\t\t\t0\t\t\r\n"])
def test_the_width_is_that_of_the_first_line_that_tells_it(tmp_path, first):
    """Bug: after a damaged first line all others were expected to be as wide as published ones."""
    rows = write_rows(tmp_path / "rows.tsv")
    rows.write_bytes(first + rows.read_bytes())
    convert(rows, tmp_path / "store", ConversionOptions(fingerprint="mine"))
    store = RegionStore(tmp_path / "store")
    assert {"image0", "image1", "image2"} <= set(store.image_ids)


def test_six_columns_become_a_store_without_names(tmp_path):
    rows = write_rows(tmp_path / "rows.tsv")
    lines = [line.split(b"\t") for line in rows.read_bytes().splitlines()]
    six = [b"\t".join(line[index] for index in (0, 2, 1, 7, 8, 9)) for line in lines]
    rows.write_bytes(b"\n".join(six))
    assert inspect(rows).facts["region feature"] == 6
    converted = convert(rows, tmp_path / "store", ConversionOptions(fingerprint="mine"))
    assert converted.failures == []
    assert "six columns of bottom-up-attention, without objects" in converted.notes[0]
    store = RegionStore(tmp_path / "store")
    assert store.header.object_names == ("unknown",)
    assert store["image0"].image_size == (50, 60)


def test_regions_cannot_become_weights(tmp_path):
    rows = write_rows(tmp_path / "rows.tsv")
    with pytest.raises(ValueError, match=r"cannot be converted to .*: expected a folder"):
        convert(rows, tmp_path / "again.tsv")
    with pytest.raises(ValueError, match=r"--heads does not apply when .*TSV file of regions"):
        convert(rows, tmp_path / "store", ConversionOptions(heads=3))
    with pytest.raises(ValueError, match="--dtype is 'int8': expected float16 or float32"):
        convert(rows, tmp_path / "store", ConversionOptions(dtype="int8", fingerprint="mine"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.tsv"]


@pytest.mark.parametrize(
    "link", ["notes.txt", "tokenizer.json", "extractor/notes.txt", "extractor"]
)
def test_links_out_of_a_model_are_not_followed(link, tmp_path):
    """Bug: what a link in a model folder pointed to was copied, whatever it was."""
    model = shutil.copytree(DEFAULT, tmp_path / "model")
    secret = tmp_path / "secret"
    if link == "extractor":
        (model / link).rename(secret)
    else:
        secret.write_text("secret")
        (model / link).unlink(missing_ok=True)
    (model / link).symlink_to(secret)
    with pytest.raises(ValueError, match=rf"{link}.* is a link to .*secret.*outside of the model"):
        convert(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["models--a--b", "models--c"])
def test_the_cache_of_the_hub_is_converted(name, tmp_path):
    """Its files are links to `blobs` beside it."""
    blobs, snapshot = tmp_path / name / "blobs", tmp_path / name / "snapshots/0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for index, path in enumerate(path for path in DEFAULT.iterdir() if path.is_file()):
        shutil.copy(path, blobs / str(index))
        (snapshot / path.name).symlink_to(f"../../blobs/{index}")
    convert(snapshot, tmp_path / "out")
    assert not (tmp_path / "out/tokenizer.json").is_symlink()
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (
        DEFAULT / "tokenizer.json"
    ).read_bytes()


def test_links_within_a_model_are_followed(tmp_path):
    model = shutil.copytree(DEFAULT, tmp_path / "model")
    (model / "again.txt").symlink_to("README.md")
    convert(model, tmp_path / "out")
    assert (tmp_path / "out/again.txt").read_bytes() == (DEFAULT / "README.md").read_bytes()
    assert {path.name for path in (tmp_path / "out/extractor").iterdir()} == {
        path.name for path in (DEFAULT / "extractor").iterdir()
    }
