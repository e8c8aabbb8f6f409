"""How long an extraction takes on given hardware, and what limits it; arithmetic only.

Every number that enters has its origin. Stages overlap, so that the slowest one alone determines
the time; a stage without a known rate is reported with the rate that it needs.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from lxmert.data.store_layout import UNIT, StoreHeader
from lxmert.data.store_writing import MOST_BYTES as MOST_UNWRITTEN
from lxmert.names import unknown_name
from lxmert.workflows.reading import MOST_BYTES

Kind = Literal["given", "measured", "limit", "arithmetic"]
"""Origin of a number: the user, a measurement, an upper limit, or a calculation."""

PEAK_FLOPS = {"a100": 312e12, "h100": 989e12, "h200": 989e12, "l4": 121e12}
"""Dense bf16 matrix products per second, from the data sheets of the devices."""

DEVICES = ("cpu", *PEAK_FLOPS)
"""Devices that a plan knows; `cpu` is two cores."""


@dataclass(frozen=True)
class Figure:
    """A number and its origin.

    Attributes:
        value: the number.
        kind: kind of origin.
        source: where exactly it is from.
    """

    value: float
    kind: Kind
    source: str


@dataclass(frozen=True)
class Extractor:
    """What a plan knows about a region extractor.

    Attributes:
        flops: operations per image; counted by `torch.utils.flop_counter`.
        cpu_seconds: time per image on two cores, measured.
        source: conditions of that measurement.
        feature_dim: width of a feature row.
        groups: attribute groups.
    """

    flops: float
    cpu_seconds: float
    source: str
    feature_dim: int
    groups: int


EXTRACTORS = {
    "published": Extractor(1.907e12, 11.4, "600x800 pixels, fp32; docs/performance.md", 2048, 1),
    "bundled": Extractor(2.5e9, 1 / 87, "160x160 pixels, bf16; docs/performance.md", 256, 3),
}

DECODED = Figure(
    620, "measured", "images per core-second, JPEG of 640x480 pixels and 101 kB; docs/scale.md"
)
COCO_BYTES = Figure(
    157e3, "arithmetic", "mean of the COCO 2014 training images: 13 GB in 82,783 files"
)


@dataclass(frozen=True)
class Work:
    """What is extracted, and on what.

    Attributes:
        images: number of images.
        device: a name of `DEVICES`, for messages.
        num_devices: number of devices, each with one process.
        image_bytes: mean size of an image file.
        stored_bytes: size of an image in the region store.
        shard_images: images per shard.
    """

    images: int
    device: str
    num_devices: int
    image_bytes: Figure
    stored_bytes: Figure
    shard_images: int = UNIT

    def __post_init__(self) -> None:
        for option, value in (("--images", self.images), ("--num-devices", self.num_devices)):
            if value < 1:
                raise ValueError(f"{option} is {value}: expected at least 1")
        if self.image_bytes.value <= 0:
            raise ValueError(f"--image-bytes is {self.image_bytes.value:g}: expected more than 0")

    @property
    def num_shards(self) -> int:
        """The number of shards, which are distributed whole."""
        return -(-self.images // self.shard_images)

    @property
    def largest_share(self) -> int:
        """The number of images of the device that has most."""
        shards = -(-self.num_shards // self.num_devices)
        return min(self.images, shards * self.shard_images)

    @property
    def busy_devices(self) -> float:
        """The mean number of devices that are busy until the one that has most is done."""
        return self.images / self.largest_share


@dataclass(frozen=True)
class Rates:
    """What the hardware can do; absent: unknown.

    Attributes:
        detect: images per second of one device; on a CPU with decoding.
        decode: images per second of one core; absent on a CPU, whose cores also detect.
        cores: cores of each device for decoding.
        write: bytes per second that one process writes.
        bandwidth: bytes per second between the devices and the shared disk, in each direction.
    """

    detect: Figure
    decode: Figure | None = None
    cores: Figure | None = None
    write: Figure | None = None
    bandwidth: Figure | None = None

    def __post_init__(self) -> None:
        given = {"rate": self.detect, "cores": self.cores, "bandwidth": self.bandwidth}
        for option, figure in given.items():
            if figure is not None and not figure.value > 0:
                raise ValueError(f"--{option} is {figure.value:g}: expected more than 0")


@dataclass(frozen=True)
class WorkStage:
    """A stage of the extraction, over all devices.

    Attributes:
        name: network, decode, detector or write.
        rate: images per second; None: unknown.
        figures: the numbers from which the rate follows, by name; None: unknown.
        needs: what it needs to keep up with the plan, for messages.
    """

    name: str
    rate: float | None
    figures: Mapping[str, Figure | None]
    needs: str


@dataclass(frozen=True)
class Plan:
    """An estimate.

    Attributes:
        work: what is extracted.
        stages: all stages in the order of the data.
        rate: images per second, the lowest known rate of a stage.
        bottleneck: the name of that stage.
        is_limit: whether the time is only a lower bound, because a rate is a limit or unknown.
        sizes: bytes by what occupies them.
    """

    work: Work
    stages: tuple[WorkStage, ...]
    rate: float
    bottleneck: str
    is_limit: bool
    sizes: Mapping[str, float]

    @property
    def hours(self) -> float:
        """The duration."""
        return self.work.images / self.rate / 3600

    def figures(self) -> dict[str, Figure | None]:
        """Return all numbers that were used, by name; None: unknown."""
        return {name: one for stage in self.stages for name, one in stage.figures.items()}

    def to_dict(self) -> dict[str, object]:
        """Return the plan for JSON."""
        return {
            "images": self.work.images,
            "device": self.work.device,
            "num_devices": self.work.num_devices,
            "hours": self.hours,
            "is_lower_bound": self.is_limit,
            "images_per_second": self.rate,
            "bottleneck": self.bottleneck,
            "stages": {
                stage.name: {"images_per_second": stage.rate, "needs": stage.needs}
                for stage in self.stages
            },
            "bytes": dict(self.sizes),
            "numbers": {
                name: None if figure is None else asdict(figure)
                for name, figure in self.figures().items()
            },
        }


def detector_rate(extractor: str, device: str) -> Figure:
    """Return the images per second of one device: measured on a CPU, else an upper limit.

    Raises:
        ValueError: if the extractor or the device is unknown.
    """
    if extractor not in EXTRACTORS:
        raise ValueError(f"--detector {unknown_name(extractor, EXTRACTORS)}")
    if device not in DEVICES:
        raise ValueError(f"--device {unknown_name(device, DEVICES)}")
    known = EXTRACTORS[extractor]
    if device == "cpu":
        return Figure(1 / known.cpu_seconds, "measured", f"two cores, {known.source}")
    peak = PEAK_FLOPS[device]
    return Figure(
        peak / known.flops,
        "limit",
        f"{peak / 1e12:.0f} TFLOP/s in bf16 (data sheet) / {known.flops / 1e9:,.4g} GFLOP per "
        "image; no extraction reaches it: measure one device and pass --rate",
    )


def known_rates(extractor: str, device: str) -> Rates:
    """Return the rates that are known without a measurement; a CPU decodes and detects in turn."""
    return Rates(detector_rate(extractor, device), decode=None if device == "cpu" else DECODED)


def stored_size(extractor: str, num_regions: int, dtype: str) -> Figure:
    """Return the bytes of an image in a region store and its index; ids have 24 bytes."""
    if num_regions < 1:
        raise ValueError(f"--num-regions is {num_regions}: expected at least 1")
    known = EXTRACTORS[extractor]
    header = StoreHeader(
        fingerprint="",
        feature_dim=known.feature_dim,
        dtype=dtype,
        precision="",
        object_names=(),
        attribute_names=(),
    )
    row, image = _column_bytes(header, known.groups)
    tables = 8 + 8 + _ID_BYTES + 4 + INDEX_BYTES
    return Figure(
        num_regions * row + image + tables,
        "arithmetic",
        f"{num_regions} regions of {known.feature_dim} numbers in {dtype}, with boxes and names",
    )


_ID_BYTES = 24
INDEX_BYTES = 12
"""Bytes of an image in the index of a store."""

_LISTED_BYTES = 96
"""Bytes of an image id of 24 characters as a Python text in two lists."""


def _column_bytes(header: StoreHeader, groups: int) -> tuple[int, int]:
    """Return the bytes of a region and those of an image, without its regions."""
    sizes = {"float16": 2, "float32": 4, "int32": 4, "uint8": 1}
    row = image = 0
    for name, (dtype, shape) in header.columns().items():
        size = sizes[dtype]
        for side in shape:
            size *= groups if side is None else side
        if name in header.row_columns:
            row += size
        else:
            image += size
    return row, image


def make_plan(work: Work, rates: Rates) -> Plan:
    """Estimate the duration of an extraction, its sizes, and the stage that limits it."""
    known = {
        "network": _bandwidth_rate(rates.bandwidth, work.image_bytes),
        "decode": _decode_rate(work, rates),
        "detector": rates.detect.value * work.busy_devices,
        "write": _write_rate(work, rates),
    }
    limits = {name: rate for name, rate in known.items() if rate is not None}
    bottleneck = min(limits, key=lambda name: limits[name])
    rate = limits[bottleneck]
    stages = _stages(work, rates, known, rate)
    lacking = any(stage.rate is None for stage in stages)
    is_limit = lacking or any(
        figure is not None and figure.kind == "limit"
        for stage in stages
        for figure in stage.figures.values()
    )
    return Plan(work, stages, rate, bottleneck, is_limit, _sizes(work))


def _bandwidth_rate(bandwidth: Figure | None, size: Figure) -> float | None:
    return None if bandwidth is None else bandwidth.value / size.value


def _decode_rate(work: Work, rates: Rates) -> float | None:
    if rates.decode is None or rates.cores is None:
        return None
    return rates.decode.value * rates.cores.value * work.busy_devices


def _write_rate(work: Work, rates: Rates) -> float | None:
    limits = [_bandwidth_rate(rates.bandwidth, work.stored_bytes)]
    if rates.write is not None:
        limits.append(rates.write.value * work.busy_devices / work.stored_bytes.value)
    return min((limit for limit in limits if limit is not None), default=None)


def _stages(
    work: Work, rates: Rates, known: Mapping[str, float | None], rate: float
) -> tuple[WorkStage, ...]:
    """Return all stages; on a CPU, decoding is part of the detector's rate."""
    figures: dict[str, dict[str, Figure | None]] = {
        "network": {
            "bytes of an image file": work.image_bytes,
            "bytes/s between devices and disk": rates.bandwidth,
        },
        "decode": {"images/s of a core": rates.decode, "cores of a device": rates.cores},
        "detector": {"images/s of a device": rates.detect},
        "write": {
            "bytes of a stored image": work.stored_bytes,
            "bytes/s between devices and disk": rates.bandwidth,
        },
    }
    needs = {
        "network": f"{format_bytes(rate * work.image_bytes.value)}/s in all",
        "detector": "",
        "write": f"{format_bytes(rate * work.stored_bytes.value)}/s in all",
    }
    if rates.decode is None:
        del figures["decode"]
    else:
        cores = rate / rates.decode.value / work.busy_devices
        needs["decode"] = f"{cores:.2g} cores per device"
    if rates.write is not None:
        figures["write"]["bytes/s of a process"] = rates.write
    return tuple(
        WorkStage(name, known[name], parts, needs[name]) for name, parts in figures.items()
    )


def _sizes(work: Work) -> dict[str, float]:
    """Return bytes by what occupies them."""
    return {
        "images, read once": work.images * work.image_bytes.value,
        "region store, written": work.images * work.stored_bytes.value,
        "index of the store, mapped by its readers": work.images * INDEX_BYTES,
        "memory for pixels and regions, each process at most": 2 * MOST_BYTES + MOST_UNWRITTEN,
        "memory for image ids, the command that distributes shards": work.images * _LISTED_BYTES,
    }


def format_bytes(size: float) -> str:
    """Return a size with a decimal unit, such as `14.9 TB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} PB"
