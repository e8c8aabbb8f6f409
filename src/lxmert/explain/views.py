"""Other questions to a model, put as questions with two answers, which every method can explain.

A view is a question-answering model that shares the weights of another model:

- `contrast_answers`: why one answer and not another;
- `match_view`: whether a caption describes an image;
- `statement_view`: whether a statement about several images is true.

Its two scores are logits minus their mean, so that their probabilities are those of the two logits,
and the relevance for one of them is half of that for the difference of the two.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lxmert.explain.inputs import Inputs
from lxmert.explain.maps import AttentionMaps, Layers
from lxmert.explain.relevance import Relevance
from lxmert.model.heads import (
    LxmertForImageAndTextRetrieval,
    LxmertForImagesAndTextClassification,
    LxmertForQuestionAnswering,
)
from lxmert.model.outputs import LxmertForQuestionAnsweringOutput, states_and_maps


class _TwoScores(nn.Module):
    """A head of which two scores are left, minus their mean."""

    def __init__(self, head: nn.Module, places: tuple[int, int]) -> None:
        super().__init__()
        self.head = head
        self.places = list(places)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map `[batch, width]` to `[batch, 2]`."""
        scores: Tensor = self.head(pooled)[:, self.places]
        return scores - scores.mean(dim=-1, keepdim=True)


class _StatementView(LxmertForQuestionAnswering):  # type: ignore[no-untyped-call]
    """A model for statements as one for questions about one image with all regions in a row.

    `visual_feats`, `visual_pos` and `visual_attention_mask` have the regions of all images of a
    text after each other, each padded to the same number. `encoded_image`, states and attention
    maps have a row for each image of each text.
    """

    judge: LxmertForImagesAndTextClassification

    def forward(
        self, *args: Any, return_dict: bool | None = None, **given: Any
    ) -> LxmertForQuestionAnsweringOutput | tuple[object, ...]:
        """Score the two answers; keyword arguments only."""
        assert not args, "pass keyword arguments"
        for name in ("visual_feats", "visual_pos", "visual_attention_mask"):
            if given.get(name) is not None:
                regions = given[name]
                length = regions.shape[1] // self.config.num_images
                given[name] = regions.reshape(len(regions), -1, length, *regions.shape[2:])
        output: Any = self.judge(**given, return_dict=True)
        scores = output.logits - output.logits.mean(dim=-1, keepdim=True)
        answered = LxmertForQuestionAnsweringOutput(
            question_answering_score=scores, **states_and_maps(output)
        )
        return self._returned(answered, return_dict)


def contrast_answers(
    model: LxmertForQuestionAnswering, answer_id: int, other_id: int
) -> LxmertForQuestionAnswering:
    """Return a view whose answer 0 is one answer rather than another, and answer 1 the reverse."""
    return _view(model, _TwoScores(model.answer_head, (answer_id, other_id)))


def match_view(model: LxmertForImageAndTextRetrieval) -> LxmertForQuestionAnswering:
    """Return a view whose answer 1 is that a caption describes an image; 0 is the contrary."""
    return _view(model, _TwoScores(model.cls, (0, 1)))


def statement_view(model: LxmertForImagesAndTextClassification) -> LxmertForQuestionAnswering:
    """Return a view whose answer 0 is that a statement is false, and answer 1 that it is true.

    Its inputs have the regions of all images in a row; see `join_images`.

    Raises:
        ValueError: if the model has more than two classes.
    """
    if model.config.num_classes != 2:
        raise ValueError(
            f"the model has {model.config.num_classes} classes, expected 2: only statements that "
            "are true or false can be explained"
        )
    view = _view(model, nn.Identity(), _StatementView)
    assert isinstance(view, _StatementView)
    view.judge = model
    return view


def join_images(inputs: Inputs) -> dict[str, Tensor]:
    """Put the regions of the images of each text in a row, `[batch, images, regions, ...]`."""
    return {
        name: value.flatten(1, 2) if name.startswith("visual") else value
        for name, value in inputs.items()
    }


def images_per_text(model: LxmertForQuestionAnswering) -> int:
    """Return how many images the regions of a text belong to."""
    return model.config.num_images if isinstance(model, _StatementView) else 1


def rows_by_image(model: LxmertForQuestionAnswering, inputs: Inputs) -> dict[str, Tensor]:
    """Return inputs with a row for each image of each text, as the attention maps have."""
    number = images_per_text(model)
    return {
        name: split_images(value, number)
        if name.startswith("visual")
        else value.repeat_interleave(number, dim=0)
        for name, value in inputs.items()
    }


def split_images(regions: Tensor, number: int) -> Tensor:
    """Reshape `[batch, images * regions, ...]` to `[batch * images, regions, ...]`."""
    batch, total = regions.shape[:2]
    return regions.reshape(batch * number, total // number, *regions.shape[2:])


def rows_by_text(model: LxmertForQuestionAnswering, found: Relevance) -> Relevance:
    """Undo `rows_by_image`: words get their mean over the images, regions stand in a row."""
    number = images_per_text(model)
    batch = len(found.words) // number
    return Relevance(
        found.words.reshape(batch, number, -1).mean(dim=1), found.regions.reshape(batch, -1)
    )


def maps_in_a_row(maps: AttentionMaps, number: int) -> AttentionMaps:
    """Return the maps of one text about several images, whose regions stand in a row.

    Maps between words are means over the images. A word attends to the regions of each image in
    equal parts, and no region to those of another image.

    Args:
        maps: of one text, with a row for each image.
        number: number of images.
    """

    def mean(layers: Layers) -> Layers:
        return tuple(layer.mean(dim=0, keepdim=True) for layer in layers)

    def blocks(layers: Layers) -> Layers:
        return tuple(
            torch.stack([_diagonal(heads) for heads in layer.transpose(0, 1)])[None]
            for layer in layers
        )

    return AttentionMaps(
        language=mean(maps.language),
        relationship=blocks(maps.relationship),
        text_over_regions=tuple(
            torch.cat(layer.split(1), dim=3) / number  # type: ignore[no-untyped-call]
            for layer in maps.text_over_regions
        ),
        regions_over_text=tuple(
            torch.cat(layer.split(1), dim=2)  # type: ignore[no-untyped-call]
            for layer in maps.regions_over_text
        ),
        text_over_text=mean(maps.text_over_text),
        regions_over_regions=blocks(maps.regions_over_regions),
    )


def _diagonal(blocks: Tensor) -> Tensor:
    """Return a matrix with the given ones on its diagonal."""
    joined: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return joined


def _view(
    model: Any,
    head: nn.Module,
    kind: type[LxmertForQuestionAnswering] = LxmertForQuestionAnswering,
) -> LxmertForQuestionAnswering:
    """Return a question-answering model with two answers and the encoder of another model."""
    config = copy.deepcopy(model.config)
    config.num_qa_labels = 2
    with torch.device("meta"):  # its weights are replaced
        view = kind(config)
    view.lxmert = model.lxmert
    view.answer_head = head  # type: ignore[assignment]
    view.train(mode=False)
    return view
