"""Explains answers of a pipeline with a PyTorch model."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from lxmert.explain.explanation import Explanation, split_words
from lxmert.explain.maps import attention_maps
from lxmert.explain.methods import choose_methods, explain_answers
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.names import nearest
from lxmert.predict import rank
from lxmert.questions import check_order, check_texts, check_top_k
from lxmert.reading import check_text
from lxmert.regions.preprocess import ImageInput, load_image
from lxmert.schema import Answer, Regions


class Explainable(Protocol):
    """What is used of a pipeline."""

    answering: LxmertForQuestionAnswering | None
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

    def objects(self, regions: Regions) -> list[str]:
        """Return the object class of each region."""
        ...

    def labels(self, regions: Regions) -> list[str]:
        """Return a label for each region."""
        ...


def explain_answer(
    pipeline: Explainable,
    image: ImageInput,
    question: str,
    *,
    top_k: int,
    answers: Sequence[str],
    methods: Sequence[str],
    regions: Regions | None,
) -> Explanation:
    """Answer a question and explain the answers; see `LxmertPipeline.explain`."""
    check_top_k(top_k)
    check_order(image, question)
    check_text(question)
    check_texts("answers", answers)
    check_texts("methods", methods)
    chosen = choose_methods(methods)
    model = pipeline.answering
    assert model is not None
    named = [_answer_id(pipeline, answer) for answer in answers]
    pixels = load_image(image)
    regions = pipeline.regions(pixels) if regions is None else regions
    inputs = {
        name: value.to(pipeline.device)
        for name, value in pipeline.processor.inputs([regions], [question]).items()
    }
    unseen = inputs | {"visual_attention_mask": inputs["visual_attention_mask"] * 0}
    with torch.inference_mode():
        probabilities, without = (
            model(**each).question_answering_score[0].float().softmax(-1)
            for each in (inputs, unseen)
        )
    best = probabilities.topk(min(top_k, len(pipeline.answers))).indices.tolist()
    ids = list(dict.fromkeys((*best, *named)))
    answer_ids = torch.tensor(ids, device=pipeline.device)
    read = pipeline.processor.read(question)
    return Explanation(
        image=pixels,
        question=question,
        words=split_words(
            question, read.token_ids.tolist(), read.spans, pipeline.processor.tokenizer
        ),
        unread=read.lost,
        answers=[Answer(pipeline.answers[index], float(probabilities[index])) for index in ids],
        regions=regions,
        objects=pipeline.objects(regions),
        labels=pipeline.labels(regions),
        by_method=explain_answers(
            model, inputs, answer_ids, tuple(dict.fromkeys((*chosen, "occlusion")))
        ),
        maps=attention_maps(model, inputs),
        model=pipeline.name,
        without_image=rank(without.cpu().numpy(), pipeline.answers, 1)[0],
    )


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
