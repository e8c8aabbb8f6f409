"""Published numbers of sentences, images and answers of each dataset."""

from typing import Literal, NamedTuple

Unit = Literal["sentences", "images", "answers", "joined images"]


class PublishedCount(NamedTuple):
    """A published number to check against.

    Attributes:
        files: output files without extension whose counts are added up; empty: all of them.
        unit: what is counted.
        number: the published count.
        source: who published it.
        within: tolerated difference; above 0 if the published number is rounded.
    """

    files: tuple[str, ...]
    unit: Unit
    number: int
    source: str
    within: int = 0


_VQA, _GQA, _NLVR2 = "VQA v2", "GQA, balanced", "NLVR2"
_PAPER, _ORIGINAL = "LXMERT, table 1", "the original files"


def _pretraining(source: str, count: int, origin: str, within: int = 0) -> PublishedCount:
    return PublishedCount(
        (f"{source}-train", f"{source}-valid"), "sentences", count, origin, within
    )


_VG_REGIONS = (5_400_000, "Visual Genome", 50_000)
_VG_QA = (1_440_000, _PAPER, 10_000)
_CAPTIONS = (616_767, "COCO captions 2014", 0)
_BOTH = ("train", "valid")
_JOINED = PublishedCount((), "joined images", 51_208, "Visual Genome")

PUBLISHED: dict[str, tuple[PublishedCount, ...]] = {
    "vqa": (
        PublishedCount(_BOTH, "sentences", 443_757 + 214_354, _VQA),
        PublishedCount(("test",), "sentences", 447_793, _VQA),
        PublishedCount(("test",), "images", 81_434, _VQA),
        PublishedCount((), "answers", 3_129, _ORIGINAL),
    ),
    "gqa": (
        PublishedCount(("train",), "sentences", 943_000, _GQA),
        PublishedCount(("valid",), "sentences", 132_062, _GQA),
        PublishedCount(("testdev",), "sentences", 12_578, _GQA),
        PublishedCount((), "answers", 1_842, _ORIGINAL),
    ),
    "gqa-submission": (),
    "nlvr2": (
        PublishedCount(("train",), "sentences", 86_373, _NLVR2),
        PublishedCount(("valid",), "sentences", 6_982, _NLVR2),
        PublishedCount(("test",), "sentences", 6_967, _NLVR2),
    ),
    "coco-captions": (PublishedCount(_BOTH, "sentences", *_CAPTIONS),),
    "vg-regions": (PublishedCount(_BOTH, "sentences", *_VG_REGIONS), _JOINED),
    "vg-qa": (PublishedCount(_BOTH, "sentences", *_VG_QA), _JOINED),
    "visual7w": (PublishedCount(_BOTH, "sentences", 69_817 + 28_020, "Visual7W, telling"), _JOINED),
    "pretraining": (
        _pretraining("coco-captions", *_CAPTIONS),
        _pretraining("vg-regions", *_VG_REGIONS),
        _pretraining("vqa", 443_757 + 214_354, _VQA),
        _pretraining("gqa", 943_000 + 132_062, _GQA),
        _pretraining("vg-qa", *_VG_QA),
        _JOINED,
    ),
    "vqa-cp": (
        PublishedCount(("train",), "sentences", 438_183, "VQA-CP v2"),
        PublishedCount(("test",), "sentences", 219_928, "VQA-CP v2"),
    ),
    "vqa-ce": (PublishedCount(("valid",), "sentences", 214_354, _VQA),),
    "vqa-rephrasings": (PublishedCount(("valid",), "sentences", 162_016, "VQA-Rephrasings"),),
    "gqa-ood": (
        PublishedCount(("valid",), "sentences", 51_045, "GQA-OOD"),
        PublishedCount(("testdev",), "sentences", 2_796, "GQA-OOD"),
    ),
    "ok-vqa": (
        PublishedCount(("train",), "sentences", 9_009, "OK-VQA"),
        PublishedCount(("valid",), "sentences", 5_046, "OK-VQA"),
    ),
    "vizwiz": (
        PublishedCount(("train",), "sentences", 20_523, "VizWiz"),
        PublishedCount(("valid",), "sentences", 4_319, "VizWiz"),
        PublishedCount(("test",), "sentences", 8_000, "VizWiz"),
    ),
    "vsr": (PublishedCount(("train", "valid", "test"), "sentences", 10_119, "VSR"),),
    "vsr-zeroshot": (),
    "snli-ve": (
        PublishedCount(("train",), "sentences", 529_527, "SNLI-VE"),
        PublishedCount(("valid",), "sentences", 17_858, "SNLI-VE"),
        PublishedCount(("test",), "sentences", 17_901, "SNLI-VE"),
    ),
    "original-vqa": (
        PublishedCount(("train",), "sentences", 632_117, _ORIGINAL),
        PublishedCount(("valid",), "sentences", 25_994, _ORIGINAL),
        PublishedCount(("test",), "sentences", 447_793, _VQA),
    ),
    "original-gqa": (
        PublishedCount(("train",), "sentences", 943_000, _GQA),
        PublishedCount(("valid",), "sentences", 132_062, _GQA),
        PublishedCount(("testdev",), "sentences", 12_578, _GQA),
        PublishedCount((), "answers", 1_842, _ORIGINAL),
    ),
    "original-nlvr2": (
        PublishedCount(("train",), "sentences", 86_373, _NLVR2),
        PublishedCount(("valid",), "sentences", 6_982, _NLVR2),
        PublishedCount(("test",), "sentences", 6_967, _NLVR2),
    ),
    "original-pretraining": (
        _pretraining("mscoco", 617_000, _PAPER, 500),
        _pretraining("vg", 5_390_000, _PAPER, 5_000),
        _pretraining("vqa", 658_000, _PAPER, 500),
        _pretraining("gqa", 1_070_000, _PAPER, 5_100),
        _pretraining("visual7w", 1_440_000, _PAPER, 5_000),
    ),
}
"""By builder. Sources: papers and pages of the datasets; `LXMERT` for numbers of the original
files."""


def check_splits(name: str, counts: dict[str, int]) -> None:
    """Raise an error if the size of a split equals the published size of another split.

    Args:
        name: name of the builder.
        counts: sentences by output file without extension.

    Raises:
        ValueError: naming both splits.
    """
    sizes = {
        published.files[0]: published.number
        for published in PUBLISHED[name]
        if len(published.files) == 1 and published.unit == "sentences"
    }
    for split, count in counts.items():
        other = next((o for o, n in sizes.items() if n == count and sizes.get(split) != n), None)
        if other is not None:
            raise ValueError(
                f"{name} {split} has {count:,} sentences, which is the published size of {other}: "
                f"check whether the files of {split} and {other} were swapped"
            )
