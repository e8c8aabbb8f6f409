"""URLs of the official files, by dataset.

Sizes and checksums were published by third parties. If none is known, the size declared by the
server is checked, and in an archive the checksum of every member.
"""

from collections import Counter
from pathlib import PurePath, PurePosixPath

from lxmert.downloading import Remote

_VQA = (
    "https://s3.amazonaws.com/cvmlp/vqa/mscoco/vqa/",
    "https://cvmlp.s3.amazonaws.com/vqa/mscoco/vqa/",
)
_GQA = ("https://downloads.cs.stanford.edu/nlp/data/gqa/", "https://nlp.stanford.edu/data/gqa/")
_NLVR2 = ("https://raw.githubusercontent.com/lil-lab/nlvr/master/nlvr2/data/",)
_COCO = (
    "http://images.cocodataset.org/annotations/",
    "https://s3.amazonaws.com/images.cocodataset.org/annotations/",
)
_VISUAL_GENOME = (
    "https://homes.cs.washington.edu/~ranjay/visualgenome/data/dataset/",
    "https://visualgenome.org/static/data/dataset/",
)
_VISUAL7W = (
    "https://ai.stanford.edu/~yukez/papers/resources/",
    "http://web.stanford.edu/~yukez/papers/resources/",
)
_VQA_CP = ("https://computing.ece.vt.edu/~aish/vqacp/",)
_VSR = (
    "https://raw.githubusercontent.com/cambridgeltl/visual-spatial-reasoning/master/data/splits/",
)
_ORIGINAL = (
    "https://nlp1.cs.unc.edu/data/lxmert_data/",
    "https://nlp.cs.unc.edu/data/lxmert_data/",
)
_REPOSITORY = ("https://raw.githubusercontent.com/airsplay/lxmert/master/data/",)


def _at(bases: tuple[str, ...], path: str) -> tuple[str, ...]:
    return tuple(base + path for base in bases)


def _vqa(part: str, member: str, sha256: str, size: int | None = None) -> Remote:
    file = f"v2_{part}_mscoco.zip"
    return Remote(f"vqa/{file}", _at(_VQA, file), size, sha256, (member,))


def _vsr(split: str) -> tuple[Remote, ...]:
    names = (f"{split}/{name}.jsonl" for name in ("train", "dev", "test"))
    return tuple(Remote(f"vsr/{name}", _at(_VSR, name)) for name in names)


def _visual_genome(name: str, size: int) -> Remote:
    file = f"{name}.json.zip"
    urls = _at(_VISUAL_GENOME, file)
    return Remote(f"visual-genome/{file}", urls, size, members=(f"{name}.json",))


def _original(path: str) -> Remote:
    return Remote(f"original/{path}", _at(_ORIGINAL, path))


def _features(path: str) -> Remote:
    member = path.rpartition("/")[2].replace(".zip", ".tsv")
    return Remote(f"original/{path}", _at(_ORIGINAL, path), members=(member,))


_CAPTIONS = Remote(
    "coco-captions/annotations_trainval2014.zip",
    _at(_COCO, "annotations_trainval2014.zip"),
    252_872_794,
    "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
    ("captions_train2014.json", "captions_val2014.json"),
)
_VQA_FILES = (
    _vqa(
        "Questions_Train",
        "v2_OpenEnded_mscoco_train2014_questions.json",
        "05a64b6e2582d06d7585f5429674a9a33851878be1bff9f8668cdcf792df611e",
        7_239_401,
    ),
    _vqa(
        "Questions_Val",
        "v2_OpenEnded_mscoco_val2014_questions.json",
        "e71f6c5c3e97a51d050f28243e262b28cd0c48d11a6b4632d769d30d3f93222a",
        3_494_929,
    ),
    _vqa(
        "Questions_Test",
        "v2_OpenEnded_mscoco_test2015_questions.json",
        "982e2e687a86514b78ea83af356d151976c5e3fb4168a29ca543610574082ad7",
    ),
    _vqa(
        "Annotations_Train",
        "v2_mscoco_train2014_annotations.json",
        "fb101bcefe91422c543c2bb6d70af11eb3119d0ff745ae283d09acdf66250853",
        21_708_861,
    ),
    _vqa(
        "Annotations_Val",
        "v2_mscoco_val2014_annotations.json",
        "0caae7c8d1dafd852727f5ac046bc1efca9b72026bd6ffa34fc489f3a7b3291e",
        10_518_930,
    ),
)
_GQA_QUESTIONS = Remote(
    "gqa/questions1.2.zip",
    _at(_GQA, "questions1.2.zip"),
    members=(
        "train_balanced_questions.json",
        "val_balanced_questions.json",
        "testdev_balanced_questions.json",
        "submission_all_questions.json",
    ),
)
_IMAGE_DATA = _visual_genome("image_data", 1_780_854)
_REGIONS = _visual_genome("region_descriptions", 127_377_968)
_QUESTION_ANSWERS = _visual_genome("question_answers", 24_776_315)
_TELLING = Remote(
    "visual7w/dataset_v7w_telling.zip",
    _at(_VISUAL7W, "dataset_v7w_telling.zip"),
    members=("dataset_v7w_telling.json",),
)

SOURCES: dict[str, tuple[Remote, ...]] = {
    "vqa": _VQA_FILES,
    "gqa": (_GQA_QUESTIONS,),
    "nlvr2": tuple(
        Remote(f"nlvr2/{name}.json", _at(_NLVR2, f"{name}.json"))
        for name in ("train", "dev", "test1")
    ),
    "coco-captions": (_CAPTIONS,),
    "vg-regions": (_IMAGE_DATA, _REGIONS, _CAPTIONS),
    "vg-qa": (_IMAGE_DATA, _QUESTION_ANSWERS, _CAPTIONS),
    "visual7w": (_IMAGE_DATA, _TELLING, _CAPTIONS),
    "pretraining": (
        _CAPTIONS,
        *_VQA_FILES,
        _GQA_QUESTIONS,
        _IMAGE_DATA,
        _REGIONS,
        _QUESTION_ANSWERS,
    ),
    "vqa-cp": tuple(
        Remote(f"vqa-cp/{name}", _at(_VQA_CP, name))
        for name in (
            f"vqacp_v2_{split}_{part}.json"
            for split in ("train", "test")
            for part in ("questions", "annotations")
        )
    ),
    "vsr": _vsr("random"),
    "vsr-zeroshot": _vsr("zeroshot"),
    "original-answers": tuple(
        Remote(f"original/{path}", _at(_REPOSITORY, path))
        for path in (
            "vqa/trainval_label2ans.json",
            "gqa/trainval_label2ans.json",
            "lxmert/all_ans.json",
        )
    ),
    "original-minival": (_original("lxmert/mscoco_minival.json"),),
    "original-vqa": tuple(
        _original(f"vqa/{name}.json") for name in ("train", "nominival", "minival", "test")
    ),
    "original-gqa": tuple(_original(f"gqa/{name}.json") for name in ("train", "valid", "testdev")),
    "original-pretraining": tuple(
        _original(f"lxmert/{name}.json")
        for name in ("mscoco_train", "mscoco_nominival", "vgnococo", "mscoco_minival")
    ),
    "original-coco-features": tuple(
        _features(f"mscoco_imgfeat/{part}_obj36.zip")
        for part in ("train2014", "val2014", "test2015")
    ),
    "original-gqa-features": tuple(
        _features(f"vg_gqa_imgfeat/{part}_obj36.zip") for part in ("vg_gqa", "gqa_testdev")
    ),
    "original-nlvr2-features": tuple(
        _features(f"nlvr2_imgfeat/{part}_obj36.zip") for part in ("train", "valid", "test")
    ),
}
"""Files by the name that `lxmert fetch` takes."""

_REMOTES = {remote for group in SOURCES.values() for remote in group}
_TIMES = Counter(PurePosixPath(remote.name).name for remote in _REMOTES)
_ALIKE = {
    path.parent for path in (PurePosixPath(r.name) for r in _REMOTES) if _TIMES[path.name] > 1
}
"""Folders with a file name that occurs in other folders too, such as `train.json`."""


def name_within(name: str, folder: PurePath) -> str:
    """Return the name of a file in a user's folder or mirror.

    This is the bare file name, unless other datasets use the same one: then it includes its
    folder, so that `nlvr2/train.json` is not confused with `vqa/train.json`.

    Args:
        name: a remote file or a member of it, as in `Remote`.
        folder: the folder to search, which may be the dataset's own folder.
    """
    path = PurePosixPath(name)
    own = path.parent.name
    return f"{own}/{path.name}" if path.parent in _ALIKE and own not in folder.parts else path.name
