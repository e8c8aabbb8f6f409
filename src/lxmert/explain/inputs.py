"""Checks a batch of questions to explain and finds its real words and regions."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lxmert.model.heads import LxmertForQuestionAnswering

Inputs = Mapping[str, Tensor]
"""Keyword arguments of forward: `input_ids`, `visual_feats`, `visual_pos`, and optionally
`attention_mask`, `token_type_ids` and `visual_attention_mask`; both masks `[batch, length]`."""

REQUIRED = ("input_ids", "visual_feats", "visual_pos")
OPTIONAL = ("attention_mask", "token_type_ids", "visual_attention_mask")


def check_explainable(model: LxmertForQuestionAnswering, inputs: Inputs) -> None:
    """Check that a model and its inputs can be explained by every method.

    Args:
        model: the model whose answers are explained.
        inputs: a batch of questions.

    Raises:
        TypeError: if an input is not a tensor.
        ValueError: if the model is in training mode or has no cross layers, an input is missing,
            unknown, or a mask of the wrong shape, the batch is empty, token ids are out of range,
            or features are not finite.
    """
    if model.training:
        raise ValueError(
            "the model is in training mode, where dropout makes explanations random: call "
            "model.eval() first"
        )
    if model.config.x_layers < 1:
        raise ValueError(
            "the model has 0 cross layers, so its answers do not depend on the image: use a model "
            "with x_layers of at least 1"
        )
    _check_names(inputs)
    _check_shapes(inputs)
    ids, features = inputs["input_ids"], inputs["visual_feats"]
    size = model.config.vocab_size
    if ids.is_floating_point() or int(ids.min()) < 0 or int(ids.max()) >= size:
        raise ValueError(
            f"input_ids are {ids.dtype} from {ids.min().item()} to {ids.max().item()}, expected "
            f"integers from 0 to {size - 1}: use the tokenizer of the model"
        )
    if not bool(features.isfinite().all()):
        raise ValueError(
            "visual_feats has NaN or infinite numbers, expected region features: extract them again"
        )


def _check_names(inputs: Inputs) -> None:
    """Check for missing and unknown inputs, and for values that are not tensors."""
    missing = [name for name in REQUIRED if inputs.get(name) is None]
    unknown = sorted(set(inputs) - {*REQUIRED, *OPTIONAL})
    if missing or unknown:
        raise ValueError(
            f"inputs lack {missing} and have the unknown keys {unknown}: pass "
            f"{', '.join(REQUIRED)} and optionally {', '.join(OPTIONAL)}"
        )
    for name, value in inputs.items():
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{name} is a {type(value).__name__}, expected a tensor: use LxmertProcessor"
            )


def _check_shapes(inputs: Inputs) -> None:
    """Check for an empty or uneven batch, an empty text, and masks of other shapes."""
    for name, axes in (("input_ids", 2), ("visual_feats", 3)):
        if inputs[name].dim() != axes:
            raise ValueError(
                f"{name} has shape {list(inputs[name].shape)}, expected {axes} axes starting with "
                "the batch: use LxmertProcessor"
            )
    batch_size, text_len = inputs["input_ids"].shape
    if not batch_size or not text_len:
        raise ValueError(
            f"input_ids has shape [{batch_size}, {text_len}], expected at least one question with "
            "at least one word piece"
        )
    if len(inputs["visual_feats"]) != batch_size:
        raise ValueError(
            f"there are {batch_size} questions and {len(inputs['visual_feats'])} images, expected "
            "equal numbers: repeat the regions for each question"
        )
    for name, side in (("attention_mask", "input_ids"), ("visual_attention_mask", "visual_feats")):
        expected = inputs[side].shape[:2]
        if name in inputs and inputs[name].shape != expected:
            raise ValueError(
                f"{name} has shape {list(inputs[name].shape)}, expected {list(expected)}: pass a "
                "mask of real positions, not of pairs"
            )


def check_answers(model: LxmertForQuestionAnswering, inputs: Inputs, answer_ids: Tensor) -> None:
    """Check that answers to questions can be explained by every method.

    Args:
        model: the model whose answers are explained.
        inputs: a batch of questions.
        answer_ids: `[batch]` integers.

    Raises:
        TypeError: if they or an input are not a tensor.
        ValueError: if their number is wrong, or one is outside the vocabulary; or as for
            `check_explainable`.
    """
    check_explainable(model, inputs)
    batch_size = len(inputs["input_ids"])
    if not isinstance(answer_ids, Tensor):
        raise TypeError(
            f"answer_ids is a {type(answer_ids).__name__}, expected a tensor: write "
            "torch.tensor([...]) with one answer id for each question"
        )
    if answer_ids.shape != (batch_size,) or answer_ids.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"answer_ids has shape {list(answer_ids.shape)} and type {answer_ids.dtype}, expected "
            f"[{batch_size}] integers: pass one answer id for each question"
        )
    outside = answer_ids[(answer_ids < 0) | (answer_ids >= model.num_qa_labels)]
    if len(outside):
        raise ValueError(
            f"answer id {int(outside[0])} is not in the model's vocabulary, expected 0 to "
            f"{model.num_qa_labels - 1}: look up ids in model.config.label2id"
        )


def real_words(inputs: Inputs) -> Tensor:
    """Return `[batch, text_len]`, True for word pieces including `[CLS]` and `[SEP]`."""
    if "attention_mask" in inputs:
        return inputs["attention_mask"].bool()
    return torch.ones_like(inputs["input_ids"], dtype=torch.bool)


def real_regions(inputs: Inputs) -> Tensor:
    """Return `[batch, regions]`, True for regions, False for padding."""
    if "visual_attention_mask" in inputs:
        return inputs["visual_attention_mask"].bool()
    return torch.ones_like(inputs["visual_feats"][..., 0], dtype=torch.bool)


def removable_words(inputs: Inputs) -> Tensor:
    """Return `[batch, text_len]`, True for word pieces between the first and the last one.

    Every text needs these two: `[CLS]`, from which the answer is read, and `[SEP]`.
    """
    removable = real_words(inputs).clone()
    positions = torch.arange(removable.shape[1], device=removable.device)
    last = torch.where(removable, positions, 0).amax(dim=1)
    removable[:, 0] = False
    return removable & (positions != last[:, None])
