"""The published weights: what they are, their files, and the addresses of each in order of trial.

Sources: the README files and issues of airsplay/lxmert, airsplay/py-bottom-up-attention,
peteanderson80/bottom-up-attention and MILVLG/bottom-up-attention.pytorch; the file listings of the
Hugging Face hub; programs that read the old model bucket of Hugging Face (MM-SHAP, MMF). No address
was reached when this table was written: what is unreachable is reported by `lxmert weights fetch`.
"""

from typing import Literal, NamedTuple

HUB = "https://huggingface.co/"
"""Start of the addresses on the hub; `HF_ENDPOINT` replaces it."""

_UNC = ("https://nlp.cs.unc.edu/", "https://nlp1.cs.unc.edu/")
_BUCKET = "https://s3.amazonaws.com/models.huggingface.co/bert/"

Kind = Literal["model", "detector"]


class File(NamedTuple):
    """A published file.

    Attributes:
        name: path below a mirror, and in the download folder.
        urls: addresses in the order in which they are tried.
        about: size in bytes, rounded as published or computed from the number of parameters; 0 if
            unknown.
        sha256: published checksum; None if none is published. That of a large file on the hub is
            announced by the hub.
    """

    name: str
    urls: tuple[str, ...]
    about: int = 0
    sha256: str | None = None


class PublishedModel(NamedTuple):
    """Published weights.

    Attributes:
        kind: a model that answers or matches, or a region extractor.
        title: what it is, in one line.
        files: its files; the last one holds the weights.
        license: license, as far as it is stated.
        scores: published scores, with their source.
        repository: name on the Hugging Face hub, which is accepted wherever a model is; None if it
            is not on the hub.
        answers: its answer list in `lxmert.vocabularies.ANSWERS`; None for a detector.
        extractors: detectors to complete the model with, in the order in which they are tried.
        note: what users should know about it.
    """

    kind: Kind
    title: str
    files: tuple[File, ...]
    license: str
    scores: str
    repository: str | None = None
    answers: str | None = None
    extractors: tuple[str, ...] = ()
    note: str = ""


def _hub(repository: str, size: int) -> tuple[File, ...]:
    return tuple(
        File(f"{repository}/{name}", (f"{HUB}{repository}/resolve/main/{name}",), about)
        for name, about in (
            ("config.json", 800),
            ("vocab.txt", 232_000),
            ("pytorch_model.bin", size),
        )
    )


_DETECTORS = ("detector-caffe", "detector-detectron2", "detector-huggingface")
"""The detector with 36 regions, in two formats, and the one of Hugging Face."""

_NO_LICENSE = "none is stated for the weights; the original code is under MIT"

PUBLISHED: dict[str, PublishedModel] = {
    "vqa": PublishedModel(
        "model",
        "LXMERT fine-tuned on VQA: 3,129 answers",
        _hub("unc-nlp/lxmert-vqa-uncased", 856_000_000),
        _NO_LICENSE,
        "VQA test-dev 70.79, test-std 70.87 (airsplay/lxmert issue 107)",
        repository="unc-nlp/lxmert-vqa-uncased",
        answers="vqa",
        extractors=_DETECTORS,
    ),
    "gqa": PublishedModel(
        "model",
        "LXMERT fine-tuned on GQA: 1,842 answers",
        _hub("unc-nlp/lxmert-gqa-uncased", 848_000_000),
        _NO_LICENSE,
        "GQA test-dev 59.3 with the original features (huggingface/transformers issue 8769)",
        repository="unc-nlp/lxmert-gqa-uncased",
        answers="gqa",
        extractors=_DETECTORS,
    ),
    "lxmert-base": PublishedModel(
        "model",
        "LXMERT pretrained: 9,500 answers, matching, masked words and regions",
        _hub("unc-nlp/lxmert-base-uncased", 1_010_000_000),
        _NO_LICENSE,
        "fine-tuned by the original code: VQA test-std 72.54, GQA test-std 60.33, NLVR2 test-U "
        "76.18 (README of airsplay/lxmert)",
        repository="unc-nlp/lxmert-base-uncased",
        answers="pretraining",
        extractors=_DETECTORS,
    ),
    "lxmert-original": PublishedModel(
        "model",
        "the pretrained checkpoint of the original code, model_LXRT.pth",
        (
            File(
                "google-bert/bert-base-uncased/vocab.txt",
                (f"{HUB}google-bert/bert-base-uncased/resolve/main/vocab.txt",),
                232_000,
            ),
            File(
                "model_LXRT.pth", tuple(f"{base}data/model_LXRT.pth" for base in _UNC), 912_000_000
            ),
        ),
        "MIT (airsplay/lxmert)",
        "fine-tuned by the original code: VQA test-std 72.54, GQA test-std 60.33, NLVR2 test-U "
        "76.18 (README of airsplay/lxmert)",
        answers="pretraining",
        extractors=_DETECTORS,
    ),
    "detector-caffe": PublishedModel(
        "detector",
        "Faster R-CNN of bottom-up attention, 36 regions, Caffe: the detector of LXMERT's features",
        (
            File(
                "resnet101_faster_rcnn_final_iter_320000.caffemodel",
                tuple(
                    f"https://www.dropbox.com/s/{key}/"
                    "resnet101_faster_rcnn_final_iter_320000.caffemodel?dl=1"
                    for key in ("2h4hmgcvpaewizu", "bacig173qnxddvz", "nu6jwhc88ujbw1v")
                ),
            ),
        ),
        "MIT (peteanderson80/bottom-up-attention)",
        "mAP@0.5 of objects 10.2, of attributes 7.8 (README of the repository)",
        note="the first choice for LXMERT, because its published features come from this file",
    ),
    "detector-detectron2": PublishedModel(
        "detector",
        "the detector with 36 regions, converted for detectron2",
        (
            File(
                "faster_rcnn_from_caffe_attr.pkl",
                tuple(f"{base}models/faster_rcnn_from_caffe_attr.pkl" for base in _UNC),
                262_000_000,
            ),
        ),
        "Apache-2.0 (airsplay/py-bottom-up-attention)",
        "none published",
    ),
    "detector-huggingface": PublishedModel(
        "detector",
        "unc-nlp/frcnn-vg-finetuned, the detector of Hugging Face's LXMERT demo",
        tuple(
            File(
                f"unc-nlp/frcnn-vg-finetuned/{name}",
                (
                    f"{_BUCKET}unc-nlp/frcnn-vg-finetuned/{name}",
                    f"https://cdn.huggingface.co/unc-nlp/frcnn-vg-finetuned/{name}",
                ),
                about,
            )
            for name, about in (("config.yaml", 2_000), ("pytorch_model.bin", 262_000_000))
        ),
        "Apache-2.0 (the code of the demo)",
        "none published",
        note="its page on the hub is gone. Its author said that it is the model with 10 to 100 "
        "regions, about 1% worse on GQA (huggingface/transformers issue 8769), while the script "
        "that made it names the file with 36",
    ),
    "detector-caffe-10-100": PublishedModel(
        "detector",
        "Faster R-CNN of bottom-up attention, 10 to 100 regions, Caffe",
        (
            File(
                "resnet101_faster_rcnn_final.caffemodel",
                (
                    "https://www.dropbox.com/s/5xethd2nxa8qrnq/"
                    "resnet101_faster_rcnn_final.caffemodel?dl=1",
                    "https://storage.googleapis.com/up-down-attention/"
                    "resnet101_faster_rcnn_final.caffemodel",
                ),
            ),
        ),
        "MIT (peteanderson80/bottom-up-attention)",
        "none published",
        note="LXMERT was not trained on its regions",
    ),
    "detector-detectron2-10-100": PublishedModel(
        "detector",
        "the detector with 10 to 100 regions, converted for detectron2",
        (
            File(
                "faster_rcnn_from_caffe_attr_original.pkl",
                tuple(f"{base}models/faster_rcnn_from_caffe_attr_original.pkl" for base in _UNC),
                262_000_000,
            ),
        ),
        "Apache-2.0 (airsplay/py-bottom-up-attention)",
        "none published",
        note="LXMERT was not trained on its regions",
    ),
}
"""Published weights by the name that `--model`, `--extractor` and `lxmert weights` take."""


def find_name(name: str) -> str | None:
    """Return the row of `PUBLISHED` for its name or its name on the hub; None if there is none."""
    if name in PUBLISHED:
        return name
    return next((key for key, entry in PUBLISHED.items() if entry.repository == name), None)
