"""Convert the files of datasets that test models: priors, paraphrases, relations, entailment."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from lxmert.datasets.build import Build, Sentence
from lxmert.datasets.images import coco_image
from lxmert.datasets.vqa_rule import build_vocabulary, soft_scores
from lxmert.files import read_json
from lxmert.metrics.fields import Record, int_field, records_field, text_field
from lxmert.metrics.files import collect, distinct, read_json_lines, read_list, read_mapping

_Key = int | str

_TRUTH = ("False", "True")

_ENTAILMENT = ("entailment", "neutral", "contradiction")


def vqa_cp(build: Build) -> Iterator[Sentence]:
    """VQA-CP v2: a new split of VQA v2, with other answers in training than in the test."""
    files = {split: _files(build, "vqacp_v2_{}_{}.json", split, "vqa-cp") for split in _CP_SPLITS}
    if build.answers is None:
        build.answers = vqa_vocabulary(annotations for _, annotations in files.values())
    for split, (questions, annotations) in files.items():
        yield from vqa_sentences(build, "vqa-cp", split, questions, annotations, image=_cp_image)


_CP_SPLITS = ("train", "test")


def vqa_ce(build: Build) -> Iterator[Sentence]:
    """VQA-CE: VQA v2's validation questions, by whether shortcuts answer them.

    The question type is `counterexamples` (all shortcuts are wrong), `hard` or `easy`.
    """
    page = "https://github.com/cdancette/detect-shortcuts"
    kinds = {
        number: kind
        for kind in ("hard", "counterexamples")
        for number in _numbers(build.downloads.find(f"{kind}.json", page=page))
    }
    questions = build.downloads.find("v2_OpenEnded_mscoco_val2014_questions.json", fetch="vqa")
    annotations = build.downloads.find("v2_mscoco_val2014_annotations.json", fetch="vqa")
    for sentence in vqa_sentences(build, "vqa-ce", "valid", questions, annotations):
        kind = kinds.pop(int(sentence.sentence_id), "easy")
        yield sentence._replace(question_type=kind)
    for number in kinds:
        build.left_out.add("listed number without a question", number)


def vqa_rephrasings(build: Build) -> Iterator[Sentence]:
    """VQA-Rephrasings: questions of VQA v2's validation with three rephrasings each, in groups."""
    name = "v2_{}mscoco_valrep2014_humans_og_{}.json"
    page = "https://facebookresearch.github.io/VQA-Rephrasings"
    yield from vqa_sentences(
        build,
        "vqa-rephrasings",
        "valid",
        build.downloads.find(name.format("OpenEnded_", "questions"), page=page),
        build.downloads.find(name.format("", "annotations"), page=page),
        key=_rephrasing_key,
        group=_rephrasing_group,
    )


def ok_vqa(build: Build) -> Iterator[Sentence]:
    """OK-VQA: questions that need outside knowledge; val2014 is validation."""
    page = "https://okvqa.allenai.org/download.html"
    files = {
        subset: (
            build.downloads.find(f"OpenEnded_mscoco_{subset}_questions.json", page=page),
            build.downloads.find(f"mscoco_{subset}_annotations.json", page=page),
        )
        for subset in ("train2014", "val2014")
    }
    if build.answers is None:
        train = files["train2014"][1]
        build.answers = build_vocabulary(read_list(train, _ok_answer, member="annotations"))
    for subset, (questions, annotations) in files.items():
        split = "train" if subset == "train2014" else "valid"
        yield from vqa_sentences(
            build, "ok-vqa", split, questions, annotations, subset=subset, kind="question_type"
        )


def vizwiz(build: Build) -> Iterator[Sentence]:
    """VizWiz: questions of blind people about their photographs; the test has no answers."""
    page = "https://vizwiz.org/tasks-and-datasets/vqa/"
    files = {
        name: build.downloads.find(f"vizwiz/{name}.json", f"Annotations/{name}.json", page=page)
        for name in ("train", "val", "test")
    }
    if build.answers is None:
        build.answers = build_vocabulary(read_list(files["train"], _vizwiz_majority))
    known = frozenset(build.answers)

    def parse(entry: Record) -> tuple[str, str, dict[str, float], str]:
        image, text = text_field(entry, "image"), text_field(entry, "question")
        if "answers" not in entry:
            return image, text, {}, ""
        return image, text, soft_scores(_given(entry), known), text_field(entry, "answer_type")

    for name, path in files.items():
        split = "valid" if name == "val" else name
        for image, text, answers, kind in read_list(path, parse):
            stem = PurePosixPath(image).stem
            if stem.split("_")[1:2] != [name]:
                raise ValueError(
                    f"{path} names the image {image[:60]!r}, expected images of {name}: check "
                    "whether files were swapped"
                )
            yield Sentence("vizwiz", split, (stem,), text, stem, answers, kind)


def gqa_ood(build: Build) -> Iterator[Sentence]:
    """GQA-OOD: questions of GQA whose answer is rare (`tail`) or frequent (`head`) in its group."""
    page = "https://github.com/gqa-ood/GQA-OOD"

    def parse(entry: Record) -> tuple[str, str, str]:
        texts = text_field(entry, "imageId"), text_field(entry, "question")
        return *texts, text_field(entry, "answer")

    for official, split in (("val", "valid"), ("testdev", "testdev")):
        for part in ("head", "tail"):
            path = build.downloads.find(f"ood_{official}_{part}.json", page=page)
            for number, (image, text, answer) in distinct(read_mapping(path, parse), path):
                answers = build.single(answer, number)
                yield Sentence("gqa-ood", split, (image,), text, number, answers, part)


def vsr(build: Build) -> Iterator[Sentence]:
    """VSR, random split: does a sentence about the places of two objects describe the image."""
    yield from _vsr(build, "random", "vsr")


def vsr_zeroshot(build: Build) -> Iterator[Sentence]:
    """VSR, zero-shot split: no object of the test occurs in training."""
    yield from _vsr(build, "zeroshot", "vsr-zeroshot")


def _vsr(build: Build, folder: str, source: str) -> Iterator[Sentence]:
    def parse(entry: Record) -> tuple[str, str, int, str]:
        label = int_field(entry, "label")
        if label not in (0, 1):
            raise ValueError(f"'label' is {label}, expected 0 or 1")
        texts = text_field(entry, "image"), text_field(entry, "caption")
        return *texts, label, text_field(entry, "relation")

    for name, split in (("train", "train"), ("dev", "valid"), ("test", "test")):
        path = build.downloads.find(f"{folder}/{name}.jsonl", fetch=source)
        for row, (image, text, label, relation) in enumerate(read_json_lines(path, parse)):
            images = (PurePosixPath(image).stem,)
            answers = {_TRUTH[label]: 1.0}
            yield Sentence(source, split, images, text, f"{name}-{row}", answers, relation)
    build.answers = build.answers or list(_TRUTH)


def snli_ve(build: Build) -> Iterator[Sentence]:
    """SNLI-VE: does an image of Flickr30k entail, contradict or neither a sentence."""

    def parse(entry: Record) -> tuple[str, str, str, str]:
        label = text_field(entry, "gold_label")
        if label not in _ENTAILMENT:
            raise ValueError(f"'gold_label' is {label[:60]!r}, expected {', '.join(_ENTAILMENT)}")
        image, number = text_field(entry, "Flickr30K_ID"), text_field(entry, "pairID")
        return image, number, text_field(entry, "sentence2"), label

    page = "https://github.com/necla-ml/SNLI-VE"
    for name, split in (("train", "train"), ("dev", "valid"), ("test", "test")):
        path = build.downloads.find(f"snli_ve_{name}.jsonl", page=page)
        for image, number, text, label in read_json_lines(path, parse):
            yield Sentence("snli-ve", split, (image,), text, number, {label: 1.0}, label)
    build.answers = build.answers or list(_ENTAILMENT)


def vqa_vocabulary(annotations: Iterable[Path]) -> list[str]:
    """Return the answer vocabulary of annotations in VQA's layout."""

    def parse(entry: Record) -> str:
        return text_field(entry, "multiple_choice_answer")

    return build_vocabulary(
        answer for path in annotations for answer in read_list(path, parse, member="annotations")
    )


def vqa_sentences(
    build: Build,
    source: str,
    split: str,
    questions: Path,
    annotations: Path,
    *,
    subset: str = "val2014",
    image: Callable[[Record, str], str] | None = None,
    key: Callable[[Record], _Key] | None = None,
    group: Callable[[Record], str] | None = None,
    kind: str = "answer_type",
) -> Iterator[Sentence]:
    """Yield questions in VQA's layout, joined with their annotations.

    Without an answer list, all answers of the annotators are kept.

    Args:
        build: the build.
        source: as in `Sentence`.
        split: as in `Sentence`.
        questions: file of questions.
        annotations: file of annotations.
        subset: COCO subset of the images.
        image: returns the image of a question; None: the numbered image of the subset.
        key: returns the id of a question or annotation; None: its number.
        group: returns the group of a question; None: no groups.
        kind: key of the question type in an annotation.
    """
    known = None if build.answers is None else frozenset(build.answers)
    identify = key or (lambda entry: int_field(entry, "question_id"))

    def annotate(entry: Record) -> tuple[_Key, tuple[str, dict[str, float]]]:
        given = _given(entry)
        scores = soft_scores(given, given if known is None else known)
        return identify(entry), (text_field(entry, kind), scores)

    def ask(entry: Record) -> tuple[_Key, tuple[str, str, str]]:
        name = (image or _numbered)(entry, subset)
        text = text_field(entry, "question")
        return identify(entry), (name, text, "" if group is None else group(entry))

    annotated = collect(read_list(annotations, annotate, member="annotations"), annotations)
    asked = distinct(read_list(questions, ask, member="questions"), questions)
    for number, (name, text, member_of) in asked:
        if number not in annotated:
            build.left_out.add(f"question of {split} without an annotation", number)
            continue
        question_type, answers = annotated.pop(number)
        yield Sentence(source, split, (name,), text, number, answers, question_type, member_of)
    for number in annotated:
        build.left_out.add(f"annotation of {split} without a question", number)


def _files(build: Build, name: str, split: str, fetch: str) -> tuple[Path, Path]:
    """Find the questions and the annotations of a split."""
    found = (
        build.downloads.find(name.format(split, part), fetch=fetch)
        for part in ("questions", "annotations")
    )
    return next(found), next(found)


def _given(entry: Record) -> list[str]:
    """Return the answers of the annotators."""
    given = [text_field(answer, "answer") for answer in records_field(entry, "answers")]
    if not given:
        raise ValueError("'answers' is empty, expected the answers of ten annotators")
    return given


def _most_common(answers: Iterable[str]) -> str:
    return Counter(answers).most_common(1)[0][0]


def _vizwiz_majority(entry: Record) -> str:
    return _most_common(_given(entry))


def _ok_answer(entry: Record) -> str:
    """Return the majority answer, after telling the file from VQA v1's, which has its name."""
    if any("raw_answer" not in answer for answer in records_field(entry, "answers")):
        raise ValueError("'raw_answer' is missing, expected an official OK-VQA file, not VQA's")
    return _most_common(_given(entry))


def _numbered(entry: Record, subset: str) -> str:
    return coco_image(subset, int_field(entry, "image_id"))


def _cp_image(entry: Record, _: str) -> str:
    return coco_image(text_field(entry, "coco_split"), int_field(entry, "image_id"))


def _rephrasing_key(entry: Record) -> str:
    """Return an id: the numbers of some rephrasings are those of other questions."""
    number = int_field(entry, "question_id")
    return f"{entry['rephrasing_of']}-{number}" if "rephrasing_of" in entry else str(number)


def _rephrasing_group(entry: Record) -> str:
    return str(int_field(entry, "rephrasing_of" if "rephrasing_of" in entry else "question_id"))


def _numbers(path: Path) -> list[int]:
    """Read a list of question numbers."""
    numbers = read_json(path)
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        raise ValueError(f"{path}: expected a list of question numbers")
    return numbers
