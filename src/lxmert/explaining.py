"""Explains what PyTorch models say: answers, contrasts, matches, statements about two images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lxmert.explain.answered import QUICK
from lxmert.explain.explanation import Explanation, split_words
from lxmert.explain.maps import AttentionMaps, attention_maps
from lxmert.explain.methods import choose_methods, explain_answers
from lxmert.explain.projection import project_states
from lxmert.explain.relevance import Relevance
from lxmert.explain.views import (
    contrast_answers,
    images_per_text,
    join_images,
    maps_in_a_row,
    match_view,
    statement_view,
)
from lxmert.hub import find_model, model_name
from lxmert.model.heads import (
    LxmertForImageAndTextRetrieval,
    LxmertForImagesAndTextClassification,
    LxmertForQuestionAnswering,
)
from lxmert.model.loading import load_model
from lxmert.names import count, nearest
from lxmert.predict import TRUTHS, judges_statements, rank
from lxmert.processing import LxmertProcessor
from lxmert.questions import check_order, check_texts, check_top_k
from lxmert.reading import check_text
from lxmert.regions.labels import object_labels, region_labels
from lxmert.regions.preprocess import ImageInput, load_image
from lxmert.schema import REGION_ARRAYS, Answer, Regions

MATCHES = ("does not match", "matches")
"""The answers to a caption, by class."""

_SIDES = ("left", "right")


class Explainable(Protocol):
    """What is used of a pipeline."""

    answering: LxmertForQuestionAnswering | None
    matcher: LxmertForImageAndTextRetrieval | None
    answers: tuple[str, ...]
    processor: Any
    device: Any

    @property
    def name(self) -> str:
        """Name of the model, for messages."""
        ...

    def regions(self, image: ImageInput) -> Regions:
        """Return the regions of an image."""
        ...


class _Shown(NamedTuple):
    """A text and its image, or its images side by side.

    Attributes:
        pixels: the image.
        text: the text.
        regions: its regions.
        objects: name of each region's object class.
        labels: the same with attributes.
        inputs: arguments of forward, a batch of one.
        processor: the processor of the model.
        name: name of the model.
    """

    pixels: npt.NDArray[np.uint8]
    text: str
    regions: Regions
    objects: list[str]
    labels: list[str]
    inputs: dict[str, Tensor]
    processor: Any
    name: str


def explain_answer(
    pipeline: Explainable,
    image: ImageInput,
    question: str,
    *,
    top_k: int,
    answers: Sequence[str],
    methods: Sequence[str],
    regions: Regions | None,
    contrast: str | None = None,
) -> Explanation:
    """Answer a question and explain the answers; see `LxmertPipeline.explain`."""
    check_top_k(top_k)
    check_order(image, question)
    check_text(question)
    check_texts("answers", answers)
    check_texts("methods", methods)
    choose_methods(methods)
    model = pipeline.answering
    assert model is not None
    named = [_answer_id(pipeline, answer) for answer in answers]
    other = None if contrast is None else _answer_id(pipeline, contrast)
    shown = _look(pipeline, image, question, regions)
    probabilities = _probabilities(model, shown.inputs)
    if other is None:
        best = probabilities.topk(min(top_k, len(pipeline.answers))).indices.tolist()
        return _explain(model, pipeline.answers, shown, [*best, *named], methods)
    if len(named) > 1:
        raise ValueError(
            f"a contrast is between two answers, but {count(len(named), 'answer')} are named: "
            "name at most one to explain"
        )
    chosen = named[0] if named else int(probabilities.argmax())
    if chosen == other:
        raise ValueError(
            f"{contrast!r} is the explained answer itself: contrast it with another one, or name "
            "the answer to explain"
        )
    pair = [pipeline.answers[place] for place in (chosen, other)]
    names = [f"{pair[0]} rather than {pair[1]}", f"{pair[1]} rather than {pair[0]}"]
    return _explain(contrast_answers(model, chosen, other), names, shown, [0, 1], methods)


def explain_match(
    pipeline: Explainable,
    image: ImageInput,
    caption: str,
    *,
    methods: Sequence[str] = QUICK,
    regions: Regions | None = None,
) -> Explanation:
    """Explain whether a caption describes an image.

    Args:
        pipeline: an `LxmertPipeline` with a matching head.
        image: as for `LxmertPipeline.ask`.
        caption: the caption.
        methods: as for `LxmertPipeline.explain`.
        regions: regions of the image, if they are known; None: they are extracted.

    Returns:
        The explanation of `matches` and `does not match`, the more probable one first.

    Raises:
        ValueError: if the model has no matching head or is exported, and as for
            `LxmertPipeline.explain`.
    """
    check_order(image, caption)
    check_text(caption)
    check_texts("methods", methods)
    choose_methods(methods)
    if pipeline.matcher is None:
        raise ValueError(
            f"{pipeline.name} has no matching head, or is exported: use the bundled model, or a "
            "pretrained one such as unc-nlp/lxmert-base-uncased"
        )
    shown = _look(pipeline, image, caption, regions)
    return _explain(match_view(pipeline.matcher), MATCHES, shown, None, methods)


def explain_statement(
    name_or_path: str | Path,
    images: Sequence[ImageInput],
    statement: str,
    *,
    methods: Sequence[str] = QUICK,
    extractor: str | Path | None = None,
    device: str = "cpu",
) -> Explanation:
    """Explain whether a statement about two images is true.

    Args:
        name_or_path: a model that judges statements: its folder or hub name.
        images: the left and the right image.
        statement: the statement.
        methods: as for `LxmertPipeline.explain`.
        extractor: the region extractor, for a model that comes without one.
        device: where to compute.

    Returns:
        The explanation of `True` and `False`, the more probable one first; the images stand side
        by side.

    Raises:
        ValueError: if the model judges no statements, there are not two images, and as for
            `LxmertPipeline.explain`.
    """
    check_text(statement)
    check_texts("methods", methods)
    choose_methods(methods)
    if len(images) != len(_SIDES):
        raise ValueError(f"got {count(len(images), 'image')}, expected a left and a right one")
    folder = find_model(name_or_path, complete=extractor is None)
    if not judges_statements(folder):
        raise ValueError(
            f"{model_name(folder)} answers questions about one image, expected a model that judges "
            "statements about two: leave the second image out, or use such a model"
        )
    judge = load_model(folder)
    assert isinstance(judge, LxmertForImagesAndTextClassification)
    judge.to(device)  # type: ignore[arg-type]
    judge.train(mode=False)
    processor = LxmertProcessor.from_folder(folder, extractor, device=device)
    processor.check_fit(judge.config, folder)
    shown = _look_at_two(processor, images, statement, device, model_name(folder))
    return _explain(statement_view(judge), TRUTHS, shown, None, methods)


def _look(pipeline: Explainable, image: ImageInput, text: str, regions: Regions | None) -> _Shown:
    """Prepare a text about one image."""
    pixels = load_image(image)
    regions = pipeline.regions(pixels) if regions is None else regions
    inputs = pipeline.processor.inputs([regions], [text])
    extractor = pipeline.processor.extractor
    return _Shown(
        pixels=pixels,
        text=text,
        regions=regions,
        objects=object_labels(extractor, regions),
        labels=region_labels(extractor, regions),
        inputs={name: value.to(pipeline.device) for name, value in inputs.items()},
        processor=pipeline.processor,
        name=pipeline.name,
    )


def _look_at_two(
    processor: LxmertProcessor, images: Sequence[ImageInput], text: str, device: str, name: str
) -> _Shown:
    """Prepare a text about two images, which are shown side by side."""
    pixels = [load_image(image) for image in images]
    found = processor.regions(pixels)
    by_image = processor.image_inputs(found)
    inputs = processor.text_inputs([text]) | {key: by_image[key][None] for key in by_image}
    named = [
        [
            f"{side}: {label}"
            for side, regions in zip(_SIDES, found, strict=True)
            for label in labels(processor.extractor, regions)
        ]
        for labels in (object_labels, region_labels)
    ]
    return _Shown(
        pixels=_side_by_side(pixels),
        text=text,
        regions=_join_regions(found),
        objects=named[0],
        labels=named[1],
        inputs={key: value.to(device) for key, value in join_images(inputs).items()},
        processor=processor,
        name=name,
    )


def _side_by_side(images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Return one image with all images next to each other, aligned at the top, on white."""
    height = max(image.shape[0] for image in images)
    missing = [((0, height - image.shape[0]), (0, 0), (0, 0)) for image in images]
    padded = [
        np.pad(image, rows, constant_values=255)
        for image, rows in zip(images, missing, strict=True)
    ]
    return np.concatenate(padded, axis=1)


def _join_regions(found: Sequence[Regions]) -> Regions:
    """Return the regions of all images as regions of the image with all next to each other."""
    widths = [regions.image_size[1] for regions in found]
    starts = np.cumsum([0, *widths[:-1]])
    moved = [
        regions.boxes + np.array([start, 0, start, 0], dtype=np.float32)
        for regions, start in zip(found, starts, strict=True)
    ]
    joined: Any = {
        name: np.concatenate([getattr(each, name) for each in found]) for name in REGION_ARRAYS
    }
    joined["boxes"] = np.concatenate(moved)
    height = max(regions.image_size[0] for regions in found)
    return replace(found[0], image_size=(height, sum(widths)), **joined)


@torch.inference_mode()
def _probabilities(model: LxmertForQuestionAnswering, inputs: dict[str, Tensor]) -> Tensor:
    """Return the probability of each answer to one question."""
    scores: Tensor = model(**inputs).question_answering_score
    return scores[0].float().softmax(-1)


def _explain(
    model: LxmertForQuestionAnswering,
    names: Sequence[str],
    shown: _Shown,
    ids: Sequence[int] | None,
    methods: Sequence[str],
) -> Explanation:
    """Explain answers.

    Args:
        model: the model, or a view of it.
        names: name of each of its answers.
        shown: text and image.
        ids: the answers to explain, the best one first; None: all, the most probable one first.
        methods: as for `LxmertPipeline.explain`.
    """
    inputs = shown.inputs
    probabilities = _probabilities(model, inputs)
    unseen = {"visual_attention_mask": inputs["visual_attention_mask"] * 0}
    without = _probabilities(model, inputs | unseen).cpu().numpy()
    if ids is None:
        ids = probabilities.argsort(descending=True).tolist()
    ids = list(dict.fromkeys(ids))
    answer_ids = torch.tensor(ids, device=probabilities.device)
    used = tuple(dict.fromkeys((*choose_methods(methods), "occlusion")))
    by_method = explain_answers(model, inputs, answer_ids, used)
    # Between the regions of two images there may be padding.
    real = inputs["visual_attention_mask"][0].bool().cpu()
    read = shown.processor.read(shown.text)
    return Explanation(
        image=shown.pixels,
        question=shown.text,
        words=split_words(
            shown.text, read.token_ids.tolist(), read.spans, shown.processor.tokenizer
        ),
        unread=read.lost,
        answers=[Answer(names[index], float(probabilities[index])) for index in ids],
        regions=shown.regions,
        objects=shown.objects,
        labels=shown.labels,
        by_method={
            name: Relevance(words, regions[:, real]) for name, (words, regions) in by_method.items()
        },
        maps=_real_maps(attention_maps(model, inputs), images_per_text(model), real),
        model=shown.name,
        without_image=rank(without, names, 1)[0],
        states=project_states(model, inputs),
    )


def _real_maps(maps: AttentionMaps, number: int, real: Tensor) -> AttentionMaps:
    """Return the maps of one text without padding of its regions."""
    if number > 1:
        maps = maps_in_a_row(maps, number)
    if bool(real.all()):
        return maps
    cut = {}
    for kind, layers in maps.kinds().items():
        rows = kind in ("relationship", "regions_over_text", "regions_over_regions")
        columns = kind in ("relationship", "text_over_regions", "regions_over_regions")
        layers = tuple(layer[:, :, real] if rows else layer for layer in layers)
        cut[kind] = tuple(layer[..., real] if columns else layer for layer in layers)
    return AttentionMaps(**cut)


def _answer_id(pipeline: Explainable, answer: str) -> int:
    """Return the id of an answer; the error for an unknown one names the nearest."""
    if answer in pipeline.answers:
        return pipeline.answers.index(answer)
    close = ", ".join(nearest(answer, pipeline.answers, n=5))
    meant = f"; the nearest are {close}" if close else ""
    raise ValueError(
        f"{answer!r} is not among the {len(pipeline.answers)} answers of {pipeline.name}: "
        f"choose one of them{meant}"
    )
