"""Convert the official downloads of each dataset to sentences; one generator per dataset."""

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from lxmert.datasets import original_files, study_sets
from lxmert.datasets.build import Build, Sentence
from lxmert.datasets.downloads import check_is, read_header
from lxmert.datasets.images import SUBSETS, captions_file, coco_image, read_coco_images
from lxmert.datasets.study_sets import vqa_sentences, vqa_vocabulary
from lxmert.metrics.fields import Record, int_field, record_field, records_field, text_field
from lxmert.metrics.files import distinct, read_json_lines, read_list, read_mapping
from lxmert.metrics.nlvr2 import TRUTHS, sentence_key


class Builder(NamedTuple):
    """A dataset builder.

    Attributes:
        read: yields the sentences.
        joined: whether images shared by COCO and Visual Genome get COCO's name, and sentences
            the split of their image (validation if the image is held out).
        mixture: whether there are several sources, each with its own files and answers.
    """

    read: Callable[[Build], Iterator[Sentence]]
    joined: bool = False
    mixture: bool = False


def vqa(build: Build) -> Iterator[Sentence]:
    """VQA v2 as used for fine-tuning: held-out images of val2014 validate, all others train."""
    yield from vqa_labeled(build)

    def parse(entry: Record) -> tuple[int, tuple[int, str]]:
        asked = int_field(entry, "image_id"), text_field(entry, "question")
        return int_field(entry, "question_id"), asked

    path = _vqa_file(build, "v2_OpenEnded_mscoco_test2015_questions.json", "test2015")
    for question_id, (image_id, text) in distinct(read_list(path, parse, member="questions"), path):
        yield Sentence("vqa", "test", (coco_image("test2015", image_id),), text, question_id, {})


def vqa_labeled(build: Build) -> Iterator[Sentence]:
    """VQA v2, labeled questions only; builds the answer vocabulary if none is given."""
    files = {
        subset: _vqa_file(build, f"v2_mscoco_{subset}_annotations.json", subset)
        for subset in SUBSETS
    }
    if build.answers is None:
        build.answers = vqa_vocabulary(files.values())
    for subset, path in files.items():
        questions = _vqa_file(build, f"v2_OpenEnded_mscoco_{subset}_questions.json", subset)
        for sentence in vqa_sentences(build, "vqa", subset, questions, path, subset=subset):
            split = "valid" if build.minival(sentence.images[0]) else "train"
            yield sentence._replace(split=split)


def _vqa_file(build: Build, name: str, subset: str) -> Path:
    """Return an official VQA v2 file after checking that it covers the COCO subset."""
    path = build.downloads.find(name, fetch="vqa")
    header = read_header(path, ("info", "data_subtype"))
    info = header.get("info")
    version = info.get("version") if isinstance(info, dict) else None
    check_is(path, version and f"v{str(version).split('.')[0]}", "v2", "VQA")
    check_is(path, header.get("data_subtype"), subset, "COCO's")
    return path


def gqa(build: Build) -> Iterator[Sentence]:
    """GQA, balanced: training, validation and testdev questions on Visual Genome images."""
    yield from gqa_labeled(build)
    yield from _gqa_split(build, "testdev", "testdev")


def gqa_labeled(build: Build) -> Iterator[Sentence]:
    """GQA, balanced, training and validation questions; builds the vocabulary if none is given."""
    found = set()
    for split, ours in (("train", "train"), ("val", "valid")):
        for sentence in _gqa_split(build, split, ours):
            found |= set(sentence.answers or ())
            yield sentence
    if build.answers is None:
        build.answers = sorted(found)


def _gqa_split(build: Build, split: str, ours: str) -> Iterator[Sentence]:
    path = build.downloads.find(f"{split}_balanced_questions.json", fetch="gqa")

    def parse(entry: Record) -> tuple[str, str, str, str]:
        if "isBalanced" not in entry:
            raise ValueError("'isBalanced' is missing, expected an official GQA question file")
        if entry["isBalanced"] is not True:
            raise ValueError("'isBalanced' is not true: use the balanced release, not the full one")
        kind = "testdev" if text_field(entry, "imageId").startswith("n") else "train or val"
        if (kind == "testdev") != (split == "testdev"):
            raise ValueError(f"the image belongs to {kind}, but the file is named {split}")
        question_type = text_field(record_field(entry, "types"), "structural")
        image, text = text_field(entry, "imageId"), text_field(entry, "question")
        return image, text, text_field(entry, "answer"), question_type

    for question_id, (image, text, answer, question_type) in distinct(
        read_mapping(path, parse), path
    ):
        answers = build.single(answer, question_id)
        yield Sentence("gqa", ours, (image,), text, question_id, answers, question_type)


def gqa_submission(build: Build) -> Iterator[Sentence]:
    """GQA, all questions of a submission, without answers."""
    path = build.downloads.find("submission_all_questions.json", fetch="gqa")

    def parse(entry: Record) -> tuple[str, str]:
        return text_field(entry, "imageId"), text_field(entry, "question")

    for question_id, (image, text) in read_mapping(path, parse):
        yield Sentence("gqa", "test", (image,), text, question_id, {})


def nlvr2(build: Build) -> Iterator[Sentence]:
    """NLVR2: is a statement true of two images? dev is validation, test1 is test."""
    for name, split in (("train", "train"), ("dev", "valid"), ("test1", "test")):
        places = (f"nlvr2/{name}.json", f"nlvr2/data/{name}.json", f"{name}.json")
        path = build.downloads.find(*places, fetch="nlvr2")
        examples = distinct(read_json_lines(path, _nlvr2_example), path)
        for identifier, (text, label) in examples:
            check_is(path, identifier.split("-")[0], name, "NLVR2's")
            pair = identifier.rpartition("-")[0]
            images = (f"{pair}-img0", f"{pair}-img1")
            answers = {str(TRUTHS[label.lower()]): 1.0}
            yield Sentence("nlvr2", split, images, text, identifier, answers)


def _nlvr2_example(entry: Record) -> tuple[str, tuple[str, str]]:
    if "identifier" not in entry:
        raise ValueError("'identifier' is missing, expected an official NLVR2 file")
    identifier, label = text_field(entry, "identifier"), text_field(entry, "label")
    sentence_key(identifier)
    if label.lower() not in TRUTHS:
        raise ValueError(f"'label' is {label[:60]!r}, expected True or False")
    return identifier, (text_field(entry, "sentence"), label)


def coco_captions(build: Build) -> Iterator[Sentence]:
    """COCO captions of train2014 and val2014."""

    def parse(entry: Record) -> tuple[int, int, str]:
        ids = int_field(entry, "id"), int_field(entry, "image_id")
        return *ids, text_field(entry, "caption")

    for subset in SUBSETS:
        names = read_coco_images(build.downloads, subset)
        path = captions_file(build.downloads, subset)
        for caption_id, image_id, text in read_list(path, parse, member="annotations"):
            if image_id in names:
                images = (names[image_id],)
                yield Sentence("coco-captions", "train", images, text, f"coco-{caption_id}")
            else:
                build.left_out.add(f"caption of {subset} without an image in its file", caption_id)


def vg_regions(build: Build) -> Iterator[Sentence]:
    """Visual Genome region descriptions, used as captions of the full image."""

    def parse(entry: Record) -> list[tuple[int, int, str]]:
        return [
            (int_field(region, "region_id"), _vg_image(region, entry), text_field(region, "phrase"))
            for region in records_field(entry, "regions")
        ]

    path = build.downloads.find("region_descriptions.json", fetch="vg-regions")
    for region_id, image, text in chain.from_iterable(read_list(path, parse)):
        yield Sentence("vg-regions", "train", (str(image),), text, f"vg-{region_id}")


def vg_qa(build: Build) -> Iterator[Sentence]:
    """Visual Genome questions and answers."""

    def parse(entry: Record) -> list[tuple[int, int, str, str]]:
        return [
            (int_field(pair, "qa_id"), _vg_image(pair, entry), *_question_and_answer(pair))
            for pair in records_field(entry, "qas")
        ]

    path = build.downloads.find("question_answers.json", fetch="vg-qa")
    for qa_id, image, text, answer in chain.from_iterable(read_list(path, parse)):
        answers = build.single(answer, qa_id)
        yield Sentence("vg-qa", "train", (str(image),), text, f"vg-{qa_id}", answers)


def visual7w(build: Build) -> Iterator[Sentence]:
    """Visual7W telling questions, a subset of Visual Genome's, without the test split."""

    def parse(entry: Record) -> tuple[int, str, list[tuple[int, str, str, str]]]:
        pairs = [
            (int_field(pair, "qa_id"), *_question_and_answer(pair), text_field(pair, "type"))
            for pair in records_field(entry, "qa_pairs")
        ]
        return int_field(entry, "image_id"), text_field(entry, "split"), pairs

    path = build.downloads.find("dataset_v7w_telling.json", fetch="visual7w")
    check_is(
        path, read_header(path, ("dataset",)).get("dataset"), "visual7w-telling", "the dataset"
    )
    for image, split, pairs in read_list(path, parse, member="images"):
        for qa_id, text, answer, question_type in pairs:
            if split == "test":
                build.left_out.add("question of the Visual7W test split", qa_id)
                continue
            answers = build.single(answer, qa_id)
            images = (str(image),)
            yield Sentence(
                "visual7w", "train", images, text, f"v7w-{qa_id}", answers, question_type
            )


def _vg_image(entry: Record, parent: Record) -> int:
    """Return the image of a region or question; some releases name it only in the parent."""
    if "image_id" in entry:
        return int_field(entry, "image_id")
    return int_field(parent, "image_id" if "image_id" in parent else "id")


def _question_and_answer(pair: Record) -> tuple[str, str]:
    return text_field(pair, "question"), text_field(pair, "answer")


def pretraining(build: Build) -> Iterator[Sentence]:
    """The full mixture: captions, region descriptions and three question sets."""
    for read in (coco_captions, vg_regions, vqa_labeled, gqa_labeled, vg_qa):
        # VQA scores always follow VQA's own vocabulary, whatever the pretraining vocabulary is.
        part = Build(build.downloads, build.minival, left_out=build.left_out)
        yield from read(part)


BUILDERS = {
    "vqa": Builder(vqa),
    "gqa": Builder(gqa),
    "gqa-submission": Builder(gqa_submission),
    "nlvr2": Builder(nlvr2),
    "coco-captions": Builder(coco_captions, joined=True),
    "vg-regions": Builder(vg_regions, joined=True),
    "vg-qa": Builder(vg_qa, joined=True),
    "visual7w": Builder(visual7w, joined=True),
    "pretraining": Builder(pretraining, joined=True, mixture=True),
    "vqa-cp": Builder(study_sets.vqa_cp),
    "vqa-ce": Builder(study_sets.vqa_ce),
    "vqa-rephrasings": Builder(study_sets.vqa_rephrasings),
    "gqa-ood": Builder(study_sets.gqa_ood),
    "ok-vqa": Builder(study_sets.ok_vqa),
    "vizwiz": Builder(study_sets.vizwiz),
    "vsr": Builder(study_sets.vsr),
    "vsr-zeroshot": Builder(study_sets.vsr_zeroshot),
    "snli-ve": Builder(study_sets.snli_ve),
    "original-vqa": Builder(original_files.vqa),
    "original-gqa": Builder(original_files.gqa),
    "original-nlvr2": Builder(original_files.nlvr2),
    "original-pretraining": Builder(original_files.pretraining, mixture=True),
}
"""Datasets by the name that `lxmert data build` takes."""
