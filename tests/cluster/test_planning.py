"""Plans: more hardware never takes longer, the slowest stage decides, sizes are those of stores."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from lxmert.cluster.measuring import measure
from lxmert.cluster.planning import (
    DEVICES,
    EXTRACTORS,
    INDEX_BYTES,
    Figure,
    Rates,
    Work,
    detector_rate,
    format_bytes,
    known_rates,
    make_plan,
    stored_size,
)
from lxmert.data.store import RegionStore, StoreHeader
from lxmert.data.store_layout import INDEX
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.detector import Detector
from lxmert.schema import Regions
from lxmert.workflows.extraction import ExtractionSettings, extract_folder, load_for_extraction


def given(value: float) -> Figure:
    return Figure(value, "given", "test")


def random_rates(generator: np.random.Generator) -> Rates:
    """Return rates of which some are unknown."""
    values = [given(float(value)) for value in 10 ** generator.uniform(0, 9, 5)]
    kept = [one if generator.random() < 0.7 else None for one in values[1:]]
    return Rates(values[0], *kept)


def random_work(generator: np.random.Generator, num_devices: int) -> Work:
    images = int(10 ** generator.uniform(0, 8))
    sizes = [given(float(size)) for size in 10 ** generator.uniform(3, 6, 2)]
    return Work(images, "h200", num_devices, sizes[0], sizes[1], int(generator.integers(1, 5000)))


@pytest.mark.parametrize("seed", range(100))
def test_more_devices_never_take_longer(seed: int) -> None:
    times = []
    for num_devices in (1, 2, 3, 7, 64, 1000):
        generator = np.random.default_rng(seed)
        work = random_work(generator, num_devices)
        times.append(make_plan(work, random_rates(generator)).hours)
    assert all(after <= before * (1 + 1e-12) for before, after in pairwise(times))


@pytest.mark.parametrize("seed", range(100))
def test_the_bottleneck_is_the_stage_with_the_lowest_rate(seed: int) -> None:
    generator = np.random.default_rng(seed)
    made = make_plan(random_work(generator, 5), random_rates(generator))
    rates = {stage.name: stage.rate for stage in made.stages if stage.rate is not None}
    assert made.rate == min(rates.values()) == rates[made.bottleneck]
    assert made.hours * 3600 * made.rate == pytest.approx(made.work.images)
    unknown = [name for name, figure in made.figures().items() if figure is None]
    assert made.is_limit == any(stage.rate is None for stage in made.stages)
    assert not made.is_limit or unknown


def test_each_stage_has_the_rate_that_its_numbers_give() -> None:
    work = Work(70_000, "h200", 4, given(200.0), given(50.0), 1000)
    rates = Rates(given(10.0), given(3.0), given(2.0), given(1250.0), given(9000.0))
    made = make_plan(work, rates)
    found = {stage.name: stage.rate for stage in made.stages}
    # 70 shards are 18 for the device that has most: as if 3.89 of the 4 devices were busy.
    busy = 70 / 18
    expected = {"network": 45.0, "decode": 6 * busy, "detector": 10 * busy, "write": 25 * busy}
    assert found == pytest.approx(expected)
    assert made.bottleneck == "decode"
    assert not made.is_limit
    assert {stage.name: stage.needs for stage in made.stages} == {
        "network": "4.67 kB/s in all",
        "decode": "2 cores per device",
        "detector": "",
        "write": "1.17 kB/s in all",
    }


@pytest.mark.parametrize("slow", ["detect", "decode", "write"])
@pytest.mark.parametrize(("images", "busy"), [(9, 1.0), (1000, 1.0), (1500, 1.5), (8000, 8.0)])
def test_devices_without_a_shard_do_nothing(slow: str, images: int, busy: float) -> None:
    """Bug: they decoded, and those that had ended wrote."""
    values = {name: 4.0 if name == slow else 1e6 for name in ("detect", "decode", "write")}
    rates = Rates(cores=given(1.0), **{name: given(value) for name, value in values.items()})
    made = make_plan(Work(images, "h200", 8, given(1.0), given(1.0), 1000), rates)
    assert made.bottleneck == slow.replace("detect", "detector")
    assert made.rate == pytest.approx(4 * busy)


def test_a_rate_by_arithmetic_is_called_a_limit() -> None:
    work = Work(1000, "h200", 1, given(1.0), given(1.0))
    full = {"cores": given(1000.0), "bandwidth": given(1e12)}
    limit = make_plan(work, Rates(detector_rate("published", "h200"), given(1.0), **full))
    assert limit.bottleneck == "detector"
    assert limit.is_limit
    slow = {**full, "bandwidth": given(9.0)}  # a detector below its limit may still be slower
    limit = make_plan(work, Rates(detector_rate("published", "h200"), given(1.0), **slow))
    assert limit.bottleneck == "network"
    assert limit.is_limit
    measured = make_plan(work, Rates(given(7.0), given(1.0), **full))
    assert not measured.is_limit


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_every_number_without_an_option_names_its_origin(extractor: str, device: str) -> None:
    stored = stored_size(extractor, 36, "float16")
    made = make_plan(Work(9, device, 2, given(1.0), stored), known_rates(extractor, device))
    figures = made.figures()
    assert figures["images/s of a device"].kind == ("measured" if device == "cpu" else "limit")
    assert all(figure.source for figure in figures.values() if figure is not None)
    assert figures["bytes/s between devices and disk"] is None
    assert ("decode" in [stage.name for stage in made.stages]) == (device != "cpu")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_the_stored_size_is_that_of_a_store(tmp_path: Path, extractor: str, dtype: str) -> None:
    known, images, regions = EXTRACTORS[extractor], 50, 5
    header = StoreHeader(
        fingerprint="x",
        feature_dim=known.feature_dim,
        dtype=dtype,
        precision="fp32",
        object_names=("a",),
        attribute_names=("b",),
    )
    one = Regions(
        boxes=np.tile(np.float32([1, 2, 30, 40]), (regions, 1)),
        features=np.ones((regions, known.feature_dim), np.float32),
        image_size=(50, 60),
        object_ids=np.zeros(regions, np.int64),
        object_scores=np.ones(regions, np.float32),
        attribute_ids=np.zeros((regions, known.groups), np.int64),
        attribute_scores=np.ones((regions, known.groups), np.float32),
    )
    names = [f"{number:024d}" for number in range(images)]
    RegionStore.write(tmp_path / "s", names, lambda left: ((name, one) for name in left), header)
    index = (tmp_path / "s" / INDEX).stat().st_size
    shard = next((tmp_path / "s").glob("shard-*")).stat().st_size
    expected = stored_size(extractor, regions, dtype).value * images
    headers = 4000  # of the two files
    assert expected <= index + shard <= expected + headers
    assert 0 <= index - images * INDEX_BYTES < headers


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999.4, "999 B"), (999.5, "1 kB"), (14.9e12, "14.9 TB"), (3e17, "300 PB")],
)
def test_sizes_have_a_decimal_unit(size: float, text: str) -> None:
    assert format_bytes(size) == text


def test_settings_that_make_no_sense_are_named() -> None:
    with pytest.raises(ValueError, match=r"--detector publishd is unknown.*'published'"):
        detector_rate("publishd", "cpu")
    with pytest.raises(ValueError, match="--device h2OO is unknown"):
        detector_rate("published", "h2OO")
    with pytest.raises(ValueError, match="--num-devices is 0"):
        Work(5, "cpu", 0, given(1.0), given(1.0))
    with pytest.raises(ValueError, match="--num-regions is 0"):
        stored_size("published", 0, "float16")
    with pytest.raises(ValueError, match="--bandwidth is -3"):
        Rates(given(1.0), bandwidth=given(-3.0))


@pytest.mark.long
def test_measuring_gives_the_sizes_of_the_store_that_an_extraction_writes(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    generator = np.random.default_rng(3)
    for number in range(19):
        pixels = generator.integers(256, size=(40, 48, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(photos / f"{number:02d}.png")
    (photos / "broken.png").write_bytes(b"no image")
    extractor, settings = load_for_extraction(None), ExtractionSettings()
    found = measure(photos, extractor, settings, seconds=100, progress=lambda done, total: None)
    store = extract_folder(
        photos, tmp_path / "s", extractor, settings, progress=lambda done, total: None
    )
    size = sum(path.stat().st_size for path in (tmp_path / "s").iterdir()) / len(store)
    assert found.stored_bytes.value == pytest.approx(size, rel=0.2)  # fewer images share a header
    assert found.image_bytes.value == np.mean([path.stat().st_size for path in photos.iterdir()])
    assert min(found.decode.value, found.detect.value, found.write.value) > 0
    combined = found.rates(on_cpu=True)
    assert combined.decode is None
    assert combined.detect.value < found.detect.value
    assert found.rates(on_cpu=False).decode == found.decode


def test_measuring_needs_an_image_with_regions(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="none of 1 image has regions; expected images"):
        measure(
            tmp_path,
            load_for_extraction(None),
            ExtractionSettings(),
            seconds=1,
            progress=lambda done, total: None,
        )


@pytest.mark.slow
def test_the_published_detector_has_the_operations_that_a_plan_assumes() -> None:
    names = [f"name {number}" for number in range(1600)]
    config = DetectorConfig.preset("caffe", object_names=names, attribute_names=names[:400])
    detector = Detector(config).eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        feature_map = detector.backbone(torch.zeros(1, 3, 600, 800), torch.tensor([[600, 800]]))
        detector.proposal_generator.rpn_head(feature_map)
        detector.roi_heads.to("meta")  # counts without computing
        detector.roi_heads.res5(torch.empty(config.proposals, 1024, 14, 14, device="meta"))
    assert counter.get_total_flops() == pytest.approx(EXTRACTORS["published"].flops, rel=1e-3)
