"""Answers of a model that is shown only some of the regions, or some of the words."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lxmert.explain.inputs import Inputs
from lxmert.model.heads import LxmertForQuestionAnswering

CHUNK = 64
"""Variants that are computed at a time, so that memory does not grow with their number."""


@torch.inference_mode()
def answer_with_regions(
    model: LxmertForQuestionAnswering, inputs: Inputs, rows: Tensor, *, kept: Tensor
) -> Tensor:
    """Answer questions about images of which some regions, features and boxes, are taken away.

    Args:
        model: in evaluation mode.
        inputs: a batch of questions, each of whose texts is encoded once.
        rows: `[variants]`, the example of the batch that each variant is of.
        kept: `[variants, regions]`, True for a real region that is left; without any, the model
            answers blindly.

    Returns:
        `[variants, answers]` scores before softmax.
    """
    names = ("input_ids", "attention_mask", "token_type_ids")
    encoded = model.lxmert.encode_text(*map(inputs.get, names))
    scores = [
        model(
            encoded_text=encoded.take(chunk),
            visual_feats=inputs["visual_feats"][chunk],
            visual_pos=inputs["visual_pos"][chunk],
            visual_attention_mask=mask.long(),
            return_dict=True,
        ).question_answering_score
        for chunk, mask in _chunks(rows, kept)
    ]
    return torch.cat(scores)


@torch.inference_mode()
def answer_with_words(
    model: LxmertForQuestionAnswering, inputs: Inputs, rows: Tensor, *, kept: Tensor
) -> Tensor:
    """Answer questions of which some word pieces are deleted; the others move up, in order.

    Args:
        model: in evaluation mode.
        inputs: a batch of questions, each of whose images is encoded once.
        rows: `[variants]`, the example of the batch that each variant is of.
        kept: `[variants, text_len]`, True for a real word piece that is left.

    Returns:
        `[variants, answers]` scores before softmax.
    """
    names = ("visual_feats", "visual_pos", "visual_attention_mask")
    encoded = model.lxmert.encode_image(*map(inputs.get, names))
    scores = [
        model(
            encoded_image=encoded.take(chunk), return_dict=True, **_shorten(inputs, chunk, mask)
        ).question_answering_score
        for chunk, mask in _chunks(rows, kept)
    ]
    return torch.cat(scores)


def _chunks(rows: Tensor, kept: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut variants into parts of at most `CHUNK`."""
    return zip(torch.split(rows, CHUNK), torch.split(kept, CHUNK), strict=True)


def _shorten(inputs: Inputs, rows: Tensor, kept: Tensor) -> dict[str, Tensor]:
    """Return the texts of `rows` with only the words of `kept`, as short as the longest of them."""
    longest = int(kept.sum(dim=1).max())
    order = kept.int().argsort(dim=1, descending=True, stable=True)[:, :longest]
    shorter = {
        name: inputs[name][rows].gather(1, order)
        for name in ("input_ids", "token_type_ids")
        if name in inputs
    }
    return shorter | {"attention_mask": kept.gather(1, order).long()}
