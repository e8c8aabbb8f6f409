"""Shards written by several jobs are the store that one process writes, byte for byte."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Command
from PIL import Image

from lxmert.cluster.extraction import (
    Loading,
    RegionWriter,
    extract_shard,
    extraction_job,
    join_shards,
    missing_shards,
)
from lxmert.cluster.shards import parse_share, run_share
from lxmert.data.store_layout import StoreHeader
from lxmert.data.store_writing import StoreWriter
from lxmert.hub import find_model
from lxmert.regions.extractor import RegionExtractor
from lxmert.workflows import extraction
from lxmert.workflows.extraction import (
    ExtractionSettings,
    extract_folder,
    find_images,
    load_for_extraction,
)

SETTINGS = ExtractionSettings(shard_images=8)

Change = Callable[[list[str]], list[str]]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 19 small images and two files that are none."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(3)
    for number in range(19):
        pixels = generator.integers(256, size=(40, 48, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    for name in ("05b.png", "17b.png"):
        (folder / name).write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def extractor() -> RegionExtractor:
    return load_for_extraction(None)


@pytest.fixture(scope="module")
def whole(
    images: Path, extractor: RegionExtractor, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the store that one process writes."""
    folder = tmp_path_factory.mktemp("whole") / "store"
    extract_folder(images, folder, extractor, SETTINGS, progress=ignore)
    assert len(list(folder.glob("shard-*"))) == 3
    return folder


def ignore(done: int, total: int) -> None:
    pass


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


@pytest.mark.long
@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_any_number_of_jobs_write_the_same_bytes(
    images: Path, extractor: RegionExtractor, whole: Path, tmp_path: Path, jobs: int
) -> None:
    output = tmp_path / "store"
    receipts = []
    for job in reversed(range(jobs)):
        receipts += run_share(
            RegionWriter(images, output, extractor, SETTINGS),
            extraction_job(images, output, Loading(), SETTINGS),
            share=(job, jobs),
            progress=ignore,
        )
    store = join_shards(output, find_images(images), 8)
    assert contents(output) == contents(whole)
    assert sorted(receipt.shard for receipt in receipts) == [0, 1, 2]
    assert sum(receipt.done for receipt in receipts) == len(store) == 19
    failed = [failure.image_id for receipt in receipts for failure in receipt.failures]
    assert sorted(failed) == ["05b.png", "17b.png"]


def test_an_interrupted_job_resumes_within_its_shard(
    images: Path, extractor: RegionExtractor, whole: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It saves what it has when it is interrupted, and repeats nothing."""
    output, names = tmp_path / "store", find_images(images)
    asked: list[str] = []

    def dying(folder, image_ids, *rest):
        for item in original(folder, image_ids, *rest):
            if len(asked) == 3:
                raise KeyboardInterrupt
            asked.append(item.image_id if hasattr(item, "image_id") else item[0])
            yield item

    original = extraction.extract_images
    monkeypatch.setattr("lxmert.cluster.extraction.extract_images", dying)
    with pytest.raises(KeyboardInterrupt):
        extract_shard(images, output, 0, names[:8], extractor, SETTINGS)
    assert missing_shards(output, 21, 8) == [0, 1, 2]
    asked.clear()
    monkeypatch.setattr(
        "lxmert.cluster.extraction.extract_images",
        lambda folder, image_ids, *rest: (
            asked.extend(image_ids),
            original(folder, image_ids, *rest),
        )[1],
    )
    extract_shard(images, output, 0, names[:8], extractor, SETTINGS)
    assert asked == names[3:8]
    assert missing_shards(output, 21, 8) == [1, 2]
    found = (output / "shard-000000-0.safetensors").stat().st_size
    assert found == (whole / "shard-000000-0.safetensors").stat().st_size


def test_shards_that_are_missing_are_named(images: Path, whole: Path, tmp_path: Path) -> None:
    output, names = tmp_path / "store", find_images(images)
    shutil.copytree(whole, output)
    with pytest.raises(FileExistsError, match="is a finished region store"):
        join_shards(output, names, 8)
    (output / "index.safetensors").unlink()
    (output / "shard-000001-0.safetensors").unlink()
    with pytest.raises(ValueError, match=r"lacks 1 shard of 3 \(1\): run `lxmert extract`"):
        join_shards(output, names, 8)


@pytest.mark.parametrize(
    ("change", "size", "told"),
    [
        (lambda names: [*names, "19.png"], 8, "shard 2 .* has 5 images, expected 6, and lacks"),
        (lambda names: names[:-1], 8, "shard 2 .* has 5 images, expected 4, and has '18.png'"),
        (lambda names: names[:16], 8, "shard 2 .* has 5 images, expected 0, and has '1"),
        # As many images as before: another first one moves all others into other shards.
        (lambda names: [*names[1:], "19.png"], 8, "shard 0 .* has 8 images, .* has '00.png'"),
        (lambda names: [*names[:20], "19.png"], 8, "shard 2 .* has 5 images, .* has '18.png'"),
        (lambda names: names, 7, "shard 0 .* has 8 images, expected 7, and has '06.png'"),
    ],
)
def test_shards_of_other_images_are_not_joined(
    images: Path, whole: Path, tmp_path: Path, change: Change, size: int, told: str
) -> None:
    """Bug: only the number of images was compared, so that others took the place of some."""
    output = tmp_path / "store"
    shutil.copytree(whole, output)
    (output / "index.safetensors").unlink()
    with pytest.raises(ValueError, match=f"^{told}"):
        join_shards(output, change(find_images(images)), size)


def test_an_image_that_is_exchanged_between_two_jobs_is_noticed(
    extractor: RegionExtractor, tmp_path: Path
) -> None:
    images, output = tmp_path / "images", tmp_path / "store"
    images.mkdir()
    for number in range(12):
        Image.new("RGB", (48, 40), (9 * number, 9, 99)).save(images / f"{number:02d}.png")

    def run(job: int) -> None:
        run_share(
            RegionWriter(images, output, extractor, SETTINGS),
            extraction_job(images, output, Loading(), SETTINGS),
            share=(job, 2),
            progress=ignore,
        )

    run(0)
    (images / "00.png").rename(images / "12.png")
    run(1)
    with pytest.raises(ValueError, match=r"^shard 0 of .* has 8 images, expected 8, and has '00."):
        join_shards(output, find_images(images), 8)


def test_a_shard_of_another_extractor_is_not_joined(
    images: Path, whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "store"
    shutil.copytree(whole, output)
    (output / "index.safetensors").unlink()
    other = StoreHeader(
        fingerprint="other", feature_dim=4, dtype="float16", precision="fp32",
        object_names=(), attribute_names=(),
    )  # fmt: skip
    with StoreWriter(tmp_path / "other", other) as writer:
        writer.finish()
        assert writer.done == set()
    with StoreWriter(tmp_path / "more", other) as writer:
        writer.add(extraction.Failure("a.png", "none"))
        writer.finish()
    shutil.copy(tmp_path / "more/shard-000000-0.safetensors", output / "shard-000002-0.safetensors")
    with pytest.raises(ValueError, match="started with the fingerprint"):
        join_shards(output, find_images(images), 8)


def test_workers_need_no_folder_of_their_own(
    images: Path, extractor: RegionExtractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: workers of a cluster, which run in another folder, did not find relative paths."""
    shutil.copytree(find_model(None) / "extractor", tmp_path / "detector")
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("03.png", "08.png"):  # a figure of each takes half a second
        shutil.copy(images / name, photos)
    extract_folder(photos, tmp_path / "one", extractor, SETTINGS, progress=ignore)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    settings = replace(SETTINGS, figures=Path("drawn"))
    job = extraction_job(Path("photos"), Path("store"), Loading(Path("detector")), settings)
    monkeypatch.chdir(tmp_path / "elsewhere")
    run_share(job.load("cpu"), job, share=(0, 1), progress=ignore)
    assert list(Path().iterdir()) == []
    assert len(list((tmp_path / "drawn").iterdir())) == 2
    join_shards(tmp_path / "store", find_images(photos), 8)
    assert contents(tmp_path / "store") == contents(tmp_path / "one")


def test_names_of_published_models_stay(images: Path, tmp_path: Path) -> None:
    loading = Loading(Path("detector-caffe"), objects=Path("names.txt"))
    job = extraction_job(images, tmp_path / "store", loading, SETTINGS)
    assert loading in job.load.args  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["3", "3/", "/3", "3/3", "-1/3", "a/b", "1/0"])
def test_a_share_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a number and how many there are"):
        parse_share(text)
    assert parse_share("0/1") == (0, 1)


def test_the_command_extracts_shares_and_joins_them(
    lxmert: Command, images: Path, whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "store"
    options = ("-o", output, "--shard-images", "8")
    for share in ("1/2", "0/2"):
        result = lxmert("extract", images, *options, "--shard", share)
        assert result.code == 0, result.err
    assert "shard 2: 4 images, 1 failed" in result.out
    result = lxmert("extract", images, *options, "--join")
    assert result.code == 3
    assert "regions of 19 images" in result.out
    assert contents(output) == contents(whole)
