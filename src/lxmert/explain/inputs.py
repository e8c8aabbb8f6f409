"""What is explained: a checked batch of questions, and which of its words and regions are real."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lxmert.model.heads import LxmertForQuestionAnswering

Inputs = Mapping[str, Tensor]
"""Keyword arguments of forward: `input_ids`, `visual_feats`, `visual_pos`, and what else it takes
of `attention_mask`, `token_type_ids` and `visual_attention_mask`; both masks `[batch, length]`."""

REQUIRED = ("input_ids", "visual_feats", "visual_pos")
OPTIONAL = ("attention_mask", "token_type_ids", "visual_attention_mask")


def check_explainable(model: LxmertForQuestionAnswering, inputs: Inputs) -> None:
    """Refuse what no method could explain, or what each would explain differently.

    Args:
        model: the model whose answers are explained.
        inputs: a batch of questions.

    Raises:
        ValueError: if the model is in training mode or has no cross layer, or an input is missing,
            unknown, or a mask of another shape.
    """
    if model.training:
        raise ValueError(
            "the model is in training mode, where dropout makes every explanation another one: "
            "call model.eval() first"
        )
    if model.config.x_layers < 1:
        raise ValueError(
            "the model has 0 cross layers, so that its answers never depend on the image: "
            "explain one with x_layers of at least 1"
        )
    missing = [name for name in REQUIRED if name not in inputs]
    unknown = sorted(set(inputs) - {*REQUIRED, *OPTIONAL})
    if missing or unknown:
        raise ValueError(
            f"inputs lack {missing} and have {unknown} too many: pass "
            f"{', '.join(REQUIRED)} and, where needed, {', '.join(OPTIONAL)}"
        )
    for name, side in (("attention_mask", "input_ids"), ("visual_attention_mask", "visual_feats")):
        expected = inputs[side].shape[:2]
        if name in inputs and inputs[name].shape != expected:
            raise ValueError(
                f"{name} has shape {list(inputs[name].shape)}, expected {list(expected)}: an "
                "explanation needs to know which positions are real, not who reads whom"
            )


def check_answers(model: LxmertForQuestionAnswering, inputs: Inputs, answer_ids: Tensor) -> None:
    """Refuse answers that are not one id of the model's vocabulary for each question.

    Args:
        model: the model whose answers are explained.
        inputs: a batch of questions.
        answer_ids: `[batch]` integers.

    Raises:
        ValueError: if there are more or fewer, or one is no id of an answer.
    """
    batch_size = len(inputs["input_ids"])
    if answer_ids.shape != (batch_size,) or answer_ids.is_floating_point():
        raise ValueError(
            f"answer_ids has shape {list(answer_ids.shape)} and type {answer_ids.dtype}, expected "
            f"[{batch_size}] integers: one answer id for each question"
        )
    outside = answer_ids[(answer_ids < 0) | (answer_ids >= model.num_qa_labels)]
    if len(outside):
        raise ValueError(
            f"answer id {int(outside[0])} is not in the model's vocabulary, expected 0 to "
            f"{model.num_qa_labels - 1}: look ids up in model.config.label2id"
        )


def real_words(inputs: Inputs) -> Tensor:
    """Return `[batch, text_len]`, True for a word piece, `[CLS]` and `[SEP]` included."""
    if "attention_mask" in inputs:
        return inputs["attention_mask"].bool()
    return torch.ones_like(inputs["input_ids"], dtype=torch.bool)


def real_regions(inputs: Inputs) -> Tensor:
    """Return `[batch, regions]`, True for a region, False for padding."""
    if "visual_attention_mask" in inputs:
        return inputs["visual_attention_mask"].bool()
    return torch.ones_like(inputs["visual_feats"][..., 0], dtype=torch.bool)


def removable_words(inputs: Inputs) -> Tensor:
    """Return `[batch, text_len]`, True for a real word piece but the first and the last one.

    Those are `[CLS]`, from which the answer is read, and `[SEP]`: no text is without them.
    """
    removable = real_words(inputs).clone()
    positions = torch.arange(removable.shape[1], device=removable.device)
    last = torch.where(removable, positions, 0).amax(dim=1)
    removable[:, 0] = False
    return removable & (positions != last[:, None])
