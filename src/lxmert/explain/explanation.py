"""An explained answer that can be drawn, plotted, saved and shown in a notebook."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lxmert.explain.answered import AnsweredQuestion
from lxmert.explain.cells import are_cells
from lxmert.explain.maps import AttentionMaps
from lxmert.explain.projection import Projection
from lxmert.explain.relevance import Relevance
from lxmert.explain.report import (
    fill_page,
    frame_page,
    pack_image,
    pack_maps,
    pack_methods,
    pack_states,
    static_page,
)
from lxmert.explain.text import percent
from lxmert.schema import Answer, Regions

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_SHOWN = 10
"""Rows of the table that a notebook without scripts shows."""


class Word(NamedTuple):
    """A word piece of the question.

    Attributes:
        text: as typed; `[CLS]` and `[SEP]` for these tokens.
        kind: `unknown` if the model reads `[UNK]`.
        joined: whether there is no space before it.
    """

    text: str
    kind: Literal["word", "special", "unknown"]
    joined: bool


def split_words(
    question: str,
    token_ids: Sequence[int],
    spans: Sequence[tuple[int, int]],
    tokenizer: PreTrainedTokenizerBase,
) -> list[Word]:
    """Return the word pieces that a model reads of a question, in their original spelling.

    Args:
        question: the question.
        token_ids: the word pieces, from `[CLS]` to `[SEP]`.
        spans: start and end of each in the question; `(0, 0)` for `[CLS]` and `[SEP]`.
        tokenizer: the tokenizer.
    """
    words: list[Word] = []
    previous = 0
    for token_id, (start, end) in zip(token_ids, spans, strict=True):
        if start == end:
            words.append(Word(str(tokenizer.decode([int(token_id)])), "special", joined=False))
        else:
            kind: Literal["word", "unknown"] = (
                "unknown" if token_id == tokenizer.unk_token_id else "word"
            )
            words.append(Word(question[start:end], kind, joined=previous == start > 0))
        previous = end
    return words


@dataclass(frozen=True, repr=False)
class Explanation:
    """An answered question with regions, attention maps and relevance scores.

    In a notebook it is shown as the interactive report.

    Attributes:
        image: `[height, width, 3]` uint8 RGB.
        question: the question.
        words: its word pieces, from `[CLS]` to `[SEP]`.
        unread: the end of the question, if it exceeds the model's text length.
        answers: the best ones first, then those requested by name.
        regions: the regions found by the extractor.
        objects: name of each region's object class.
        labels: the same with attributes, such as `large red metal ball`.
        by_method: scores `[answers, words]` and `[answers, regions]` by method name.
        maps: all attention maps, with batch size 1.
        model: name of the model.
        without_image: the best answer if all regions are masked, so that the model reads the
            question only; None if it was not computed.
        states: the states of words and regions after each layer, in a plane; empty if they were not
            computed.
    """

    image: npt.NDArray[np.uint8]
    question: str
    words: list[Word]
    unread: str
    answers: list[Answer]
    regions: Regions
    objects: list[str]
    labels: list[str]
    by_method: Mapping[str, Relevance]
    maps: AttentionMaps
    model: str
    without_image: Answer | None = None
    states: tuple[Projection, ...] = ()

    def __repr__(self) -> str:
        """Return one line without the arrays."""
        best = self.answers[0]
        return (
            f"Explanation({self.question!r}: {best.answer!r} ({best.score:.3f}) of "
            f"{len(self.answers)} answers, {len(self.regions)} regions, "
            f"{', '.join(self.by_method)})"
        )

    @property
    def relevance(self) -> list[float]:
        """Decrease in the probability of the best answer without each region."""
        relevance: list[float] = self.by_method["occlusion"].regions[0].tolist()
        return relevance

    @property
    def answered(self) -> AnsweredQuestion:
        """Answers and regions without words and maps."""
        return AnsweredQuestion(
            image=self.image,
            question=self.question,
            answers=self.answers,
            regions=self.regions,
            objects=self.objects,
            labels=self.labels,
            relevance=self.relevance,
            without_image=self.without_image,
        )

    @property
    def same_without_image(self) -> bool:
        """Whether the best answer stays the same if all regions are masked."""
        return self.answered.same_without_image

    @property
    def did_not_look(self) -> bool:
        """Whether, in addition, no region is relevant to it."""
        return self.answered.did_not_look

    def to_dict(self) -> dict[str, object]:
        """Return answers and regions as JSON values; see `AnsweredQuestion.to_dict`."""
        return self.answered.to_dict()

    def reasons(self) -> list[tuple[Answer, str | None, str | None]]:
        """Return each answer with its most relevant region and word, by the first method.

        None if no region or word has a positive score.
        """
        words, regions = next(iter(self.by_method.values()))
        texts = [word.text for word in self.words]
        return [
            (answer, _first(self.labels, regions[row]), _first(texts, words[row]))
            for row, answer in enumerate(self.answers)
        ]

    def draw(self) -> Image.Image:
        """Draw the image with regions and answers."""
        return self.answered.draw()

    def plot(self, method: str | None = None) -> "Figure":
        """Plot image and words, shaded by their relevance for the best answer, for a paper.

        Args:
            method: relevance method; None: the first of `by_method`.

        Raises:
            ValueError: if the explanation does not include the method.
            ModuleNotFoundError: without matplotlib.
        """
        from lxmert.explain.plots import plot_explanation

        name = method or next(iter(self.by_method))
        if name not in self.by_method:
            raise ValueError(
                f"method {name!r} was not computed, expected one of {', '.join(self.by_method)}: "
                "pass it to explain()"
            )
        words, regions = self.by_method[name]
        return plot_explanation(
            self.image,
            words=[word.text for word in self.words],
            word_relevance=words[0].tolist(),
            boxes=self.regions.boxes,
            labels=self.labels,
            region_relevance=regions[0].tolist(),
            answer=self.answers[0],
            method=name,
        )

    def to_html(self) -> str:
        """Return the interactive report: a single HTML page without external resources."""
        return fill_page(
            {
                "question": self.question,
                "unread": self.unread,
                "model": self.model,
                "image": pack_image(self.image),
                "words": [word._asdict() for word in self.words],
                "regions": [
                    {"label": label, "box": [round(side, 2) for side in box], "score": score}
                    for label, box, score in zip(
                        self.labels,
                        self.regions.boxes.tolist(),
                        self.regions.object_scores.tolist(),
                        strict=True,
                    )
                ],
                "cells": are_cells(self.regions.boxes, self.image.shape[:2]),
                "answers": [{"text": a.answer, "score": a.score} for a in self.answers],
                "methods": pack_methods(self.by_method),
                "maps": pack_maps(self.maps),
                "states": pack_states(self.states),
            }
        )

    def _repr_html_(self) -> str:
        """Show the report in a notebook, or an image and a table where scripts are not run."""
        head = ("answer", "probability", "most relevant region", "most relevant word")
        rows = [
            (answer.answer, percent(answer.score), region or "none", word or "none")
            for answer, region, word in self.reasons()[:_SHOWN]
        ]
        title = f"{self.question} {self.answers[0].answer}"
        return frame_page(self.to_html(), static_page(self.draw(), title, [head, *rows]))


def _first(names: Sequence[str], scores: Tensor) -> str | None:
    """Return the name with the highest score, if it is positive."""
    if not len(scores) or scores.max() <= 0:
        return None
    return names[int(scores.argmax())]
