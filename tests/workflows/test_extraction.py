"""A folder of images becomes a store; what is no image is reported, and tried again."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from lxmert.regions.cells import CELL_NAMES, CellLayout
from lxmert.regions.extract import DetectorExtractor
from lxmert.workflows import reading
from lxmert.workflows.extraction import (
    ExtractionSettings,
    extract_folder,
    find_images,
    load_for_extraction,
    name_regions,
    parse_num_regions,
)

ROOT = Path(__file__).parents[2]
SCENES = sorted((ROOT / "src/lxmert/examples").rglob("*.png"))


@pytest.fixture(scope="module")
def extractor():
    return load_for_extraction(None)


@pytest.fixture
def images(tmp_path):
    """Two images, one of them in a sub-folder, and three files that are none."""
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    for name, scene in (("b.png", SCENES[0]), ("more/d.png", SCENES[1])):
        shutil.copy(scene, folder / name)
    (folder / "a.png").write_bytes(SCENES[0].read_bytes()[:200])
    (folder / "c.jpg").write_text("no image")
    (folder / "more" / "e.png").write_bytes(b"")
    return folder


def ignore(done, total):
    pass


def test_images_that_cannot_be_read_are_reported_and_the_run_goes_on(extractor, images, tmp_path):
    """One broken file ended the extraction of a whole folder."""
    seen: list[tuple[int, int]] = []
    store_path = tmp_path / "store"
    store = extract_folder(
        images, store_path, extractor, progress=lambda done, count: seen.append((done, count))
    )
    assert store.image_ids == ["b.png", "more/d.png"]
    assert sorted(f.image_id for f in store.failures) == ["a.png", "c.jpg", "more/e.png"]
    assert all(failure.image_id in failure.reason for failure in store.failures)
    assert (seen[0], seen[-1]) == ((0, 5), (5, 5))
    (expected,) = extractor([SCENES[0]])
    np.testing.assert_array_equal(store["b.png"].boxes, expected.boxes)
    np.testing.assert_allclose(store["b.png"].features, expected.features, rtol=2e-3, atol=1e-4)

    shutil.copy(SCENES[0], images / "a.png")
    store = extract_folder(images, store_path, extractor, progress=ignore)
    assert store.image_ids == ["b.png", "more/d.png", "a.png"]
    assert len(store.failures) == 2
    for name in ("c.jpg", "more/e.png"):
        (images / name).unlink()
    with pytest.raises(FileExistsError, match="finished region store"):
        extract_folder(images, store_path, extractor, progress=ignore)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_odd_files_are_failures_like_any_other(extractor, images, tmp_path):
    """A DDS, BLP or EPS file by the name of an image ended the extraction of a whole folder."""
    odd = {
        "dds.png": b"DDS " + bytes(124),
        "blp.png": b"BLP2" + bytes(2000),
        "eps.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 x\n",
        "tiff.tif": b"II*\0\x08\0\0\0" + b"\xff" * 40,
    }
    for name, content in odd.items():
        (images / name).write_bytes(content)
    store = extract_folder(images, tmp_path / "store", extractor, progress=ignore)
    assert store.image_ids == ["b.png", "more/d.png"]
    reasons = {failure.image_id: failure.reason for failure in store.failures}
    assert odd.keys() <= reasons.keys()
    assert all(name in reasons[name] for name in odd)


def test_the_bundled_extractor_are_those_of_the_bundled_model(extractor):
    beside = DetectorExtractor.from_pretrained(ROOT / "src/lxmert/default/extractor")
    assert extractor.fingerprint == beside.fingerprint


class Refusing(DetectorExtractor):
    """An extractor that rejects images brighter than 250, and overflows on black ones."""

    def __call__(self, images, *, boxes=None, num_regions=None):
        for pixels in images:
            if pixels.mean() > 250:
                raise ValueError("too bright to look at")
        found = super().__call__(images, boxes=boxes, num_regions=num_regions)
        return [
            replace(regions, features=regions.features + (1e6 if pixels.max() == 0 else 0))
            for regions, pixels in zip(found, images, strict=True)
        ]


def test_an_image_that_the_extractor_refuse_fails_alone(extractor, images, tmp_path):
    """One image at which the extractor raised ended the run for its whole batch."""
    Image.new("RGB", (40, 50), "white").save(images / "bright.png")
    Image.new("RGB", (40, 50), "black").save(images / "dark.png")
    store = extract_folder(
        images, tmp_path / "store", Refusing(extractor.detector), progress=ignore
    )
    assert store.image_ids == ["b.png", "more/d.png"]
    reasons = {failure.image_id: failure.reason for failure in store.failures}
    assert reasons["bright.png"] == "bright.png: too bright to look at"
    assert "dark.png: it has features up to 1000" in reasons["dark.png"]
    assert "float16 cannot hold" in reasons["dark.png"]


def test_other_errors_of_the_extractor_are_not_hidden(extractor, images, tmp_path):
    class Broken(DetectorExtractor):
        def __call__(self, images, **_):
            raise RuntimeError("a bug of ours")

    with pytest.raises(RuntimeError, match="a bug of ours"):
        extract_folder(images, tmp_path / "store", Broken(extractor.detector), progress=ignore)


def test_an_interrupted_run_goes_on_with_nothing_lost_and_nothing_twice(
    extractor, images, tmp_path, monkeypatch
):
    for index in range(7):
        shutil.copy(SCENES[index % len(SCENES)], images / f"s{index}.png")
    monkeypatch.setattr(reading, "BATCH", 2)
    whole = extract_folder(images, tmp_path / "whole", extractor, progress=ignore)

    def stop_at(limit):
        def progress(done, total):
            if done >= limit:
                raise KeyboardInterrupt

        return progress

    for limit in (2, 5, 8):
        with pytest.raises(KeyboardInterrupt):
            extract_folder(images, tmp_path / "store", extractor, progress=stop_at(limit))
    store = extract_folder(images, tmp_path / "store", extractor, progress=ignore)
    assert store.image_ids == whole.image_ids
    assert len(store.failures) == 3
    for image_id in whole.image_ids:
        np.testing.assert_allclose(
            store[image_id].features, whole[image_id].features, rtol=2e-3, atol=1e-3
        )


def test_the_number_of_regions_and_the_type_are_kept_and_not_mixed(extractor, images, tmp_path):
    settings = ExtractionSettings(dtype="float32", num_regions=(2, 3))
    store = extract_folder(images, tmp_path / "store", extractor, settings, progress=ignore)
    assert store.header.dtype == "float32"
    assert store.header.num_regions == (2, 3)
    assert [len(store[image_id]) for image_id in store.image_ids] == [3, 3]
    (expected,) = extractor([SCENES[0]], num_regions=(2, 3))
    np.testing.assert_allclose(store["b.png"].features, expected.features, rtol=1e-4, atol=1e-4)
    for other in (ExtractionSettings("float32"), ExtractionSettings("float32", 3)):
        with pytest.raises(ValueError, match=r"started with the num_regions \(2, 3\)"):
            extract_folder(images, tmp_path / "store", extractor, other, progress=ignore)


def test_a_number_that_cannot_be_is_refused_before_the_first_image(extractor, images, tmp_path):
    """It would have been a failure of each image."""
    settings = ExtractionSettings(num_regions=8000)
    with pytest.raises(ValueError, match="num_regions is 8000; expected a number from 1 to 64"):
        extract_folder(images, tmp_path / "store", extractor, settings, progress=ignore)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(("text", "number"), [("36", 36), ("10-100", (10, 100))])
def test_numbers_of_regions_are_parsed(text, number):
    assert parse_num_regions(text) == number


@pytest.mark.parametrize("text", ["", "many", "10-", "-3", "1-2-3", "3.5"])
def test_what_is_no_number_of_regions_is_refused(text):
    with pytest.raises(ValueError, match="expected a number, or a range like 10-100"):
        parse_num_regions(text)


def test_figures_are_drawn_for_each_image_that_has_regions(extractor, images, tmp_path):
    """A figure was named `x.png.png`."""
    settings = ExtractionSettings(figures=tmp_path / "drawn")
    extract_folder(images, tmp_path / "store", extractor, settings, progress=ignore)
    drawn = sorted(path.relative_to(tmp_path / "drawn") for path in (tmp_path / "drawn").rglob("*"))
    assert list(map(str, drawn)) == ["b.png", "more", "more/d.png"]
    with Image.open(tmp_path / "drawn" / "b.png") as figure:
        assert max(figure.size) == 1200
    with pytest.raises(ValueError, match="is inside the image folder"):
        extract_folder(
            images,
            tmp_path / "other",
            extractor,
            ExtractionSettings(figures=images / "drawn"),
            progress=ignore,
        )


def test_regions_are_named_by_their_most_confident_attribute(extractor):
    (regions,) = extractor([SCENES[0]])
    labels = name_regions(extractor, regions)
    assert len(labels) == len(regions)
    for label, object_id, ids, scores in zip(
        labels, regions.object_ids, regions.attribute_ids, regions.attribute_scores, strict=True
    ):
        best = max(range(len(ids)), key=lambda group: scores[group])
        expected = f"{extractor.attribute_names[ids[best]]} {extractor.object_names[object_id]}"
        assert label == expected
    assert name_regions(extractor, replace(regions, found=False)) == ["whole image"] * len(regions)


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(FileNotFoundError, match=r"no image below .*expected files ending in"):
        find_images(tmp_path)


def test_names_for_extractor_that_know_their_own_are_refused():
    with pytest.raises(ValueError, match="--preset, --objects and --attributes are only for files"):
        load_for_extraction(None, preset="caffe")


def test_without_a_reader_nothing_is_read():
    with pytest.raises(ValueError, match="--workers is 0"):
        ExtractionSettings(workers=0)


def test_cells_are_named_by_row_and_column():
    """Drawings of grid extractors called every cell just "cell"."""
    layout = CellLayout(height=4, width=6, rows=2, columns=3, feature_dim=4)
    regions = layout.regions(np.zeros((6, 4), np.float32), (200, 300))
    grid = SimpleNamespace(recognizes=False, object_names=CELL_NAMES, attribute_names=())
    labels = name_regions(grid, regions)
    assert labels == [f"cell {row},{column}" for row in (1, 2) for column in (1, 2, 3)]
