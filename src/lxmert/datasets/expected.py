"""How many sentences, images and answers a data set has, as was published."""

from typing import Literal, NamedTuple

Unit = Literal["sentences", "images", "answers", "joined images"]


class Published(NamedTuple):
    """A number to check against.

    Attributes:
        files: the files whose numbers are added, without ending; none: it is of the whole.
        unit: what is counted.
        number: how many.
        source: who says so.
        within: how far the number may be off; above 0 where it was published rounded.
    """

    files: tuple[str, ...]
    unit: Unit
    number: int
    source: str
    within: int = 0


_VQA, _GQA, _NLVR2 = "VQA v2", "GQA, balanced", "NLVR2"
_PAPER, _ORIGINAL = "LXMERT, table 1", "the original's files"


def _pretraining(source: str, count: int, origin: str, within: int = 0) -> Published:
    return Published((f"{source}-train", f"{source}-valid"), "sentences", count, origin, within)


_VG_REGIONS = (5_400_000, "Visual Genome", 50_000)
_VG_QA = (1_440_000, _PAPER, 10_000)
_CAPTIONS = (616_767, "COCO captions 2014", 0)
_BOTH = ("train", "valid")
_JOINED = Published((), "joined images", 51_208, "Visual Genome")

PUBLISHED: dict[str, tuple[Published, ...]] = {
    "vqa": (
        Published(_BOTH, "sentences", 443_757 + 214_354, _VQA),
        Published(("test",), "sentences", 447_793, _VQA),
        Published(("test",), "images", 81_434, _VQA),
        Published((), "answers", 3_129, _ORIGINAL),
    ),
    "gqa": (
        Published(("train",), "sentences", 943_000, _GQA),
        Published(("valid",), "sentences", 132_062, _GQA),
        Published(("testdev",), "sentences", 12_578, _GQA),
        Published((), "answers", 1_842, _ORIGINAL),
    ),
    "gqa-submission": (),
    "nlvr2": (
        Published(("train",), "sentences", 86_373, _NLVR2),
        Published(("valid",), "sentences", 6_982, _NLVR2),
        Published(("test",), "sentences", 6_967, _NLVR2),
    ),
    "coco-captions": (Published(_BOTH, "sentences", *_CAPTIONS),),
    "vg-regions": (Published(_BOTH, "sentences", *_VG_REGIONS), _JOINED),
    "vg-qa": (Published(_BOTH, "sentences", *_VG_QA), _JOINED),
    "visual7w": (Published(_BOTH, "sentences", 69_817 + 28_020, "Visual7W, telling"), _JOINED),
    "pretraining": (
        _pretraining("coco-captions", *_CAPTIONS),
        _pretraining("vg-regions", *_VG_REGIONS),
        _pretraining("vqa", 443_757 + 214_354, _VQA),
        _pretraining("gqa", 943_000 + 132_062, _GQA),
        _pretraining("vg-qa", *_VG_QA),
        _JOINED,
    ),
    "original-vqa": (
        Published(("train",), "sentences", 632_117, _ORIGINAL),
        Published(("valid",), "sentences", 25_994, _ORIGINAL),
        Published(("test",), "sentences", 447_793, _VQA),
    ),
    "original-gqa": (
        Published(("train",), "sentences", 943_000, _GQA),
        Published(("valid",), "sentences", 132_062, _GQA),
        Published(("testdev",), "sentences", 12_578, _GQA),
        Published((), "answers", 1_842, _ORIGINAL),
    ),
    "original-nlvr2": (
        Published(("train",), "sentences", 86_373, _NLVR2),
        Published(("valid",), "sentences", 6_982, _NLVR2),
        Published(("test",), "sentences", 6_967, _NLVR2),
    ),
    "original-pretraining": (
        _pretraining("mscoco", 617_000, _PAPER, 500),
        _pretraining("vg", 5_390_000, _PAPER, 5_000),
        _pretraining("vqa", 658_000, _PAPER, 500),
        _pretraining("gqa", 1_070_000, _PAPER, 5_100),
        _pretraining("visual7w", 1_440_000, _PAPER, 5_000),
    ),
}
"""By builder. Source of the numbers: the data sets' papers and pages, and `LXMERT` for what the
original made of them."""


def check_splits(name: str, counts: dict[str, int]) -> None:
    """Refuse a split that has exactly as many sentences as another one was published with.

    Args:
        name: of the builder.
        counts: sentences by file, without ending.

    Raises:
        ValueError: naming both.
    """
    whole = {
        published.files[0]: published.number
        for published in PUBLISHED[name]
        if len(published.files) == 1 and published.unit == "sentences"
    }
    for split, count in counts.items():
        other = next((o for o, n in whole.items() if n == count and whole.get(split) != n), None)
        if other is not None:
            raise ValueError(
                f"{name} {split} has {count:,} sentences, but that is how many {other} has and not "
                f"{split}: is the file of {other} in the place of that of {split}?"
            )
