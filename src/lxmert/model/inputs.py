"""Checks of what a model's `forward` was given, with errors that name what would have worked."""

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import NamedTuple

from torch import Tensor

from lxmert.model.configuration import LxmertConfig

PASSED_BY_LIBRARIES = frozenset({"num_items_in_batch", "return_loss", "use_cache"})
"""Keywords that trainers and wrappers add to every model's call and that mean nothing here."""


class Inputs(NamedTuple):
    """What every LXMERT model reads; shapes as in `LxmertModel.forward`."""

    input_ids: Tensor | None
    visual_feats: Tensor | None
    visual_pos: Tensor | None
    attention_mask: Tensor | None
    visual_attention_mask: Tensor | None
    token_type_ids: Tensor | None
    inputs_embeds: Tensor | None


def check_keywords(given: Mapping[str, object], forward: Callable[..., object]) -> None:
    """Refuse keywords that `forward` does not know, which would otherwise do nothing unseen.

    Raises:
        TypeError: if a keyword with a value is neither an argument of `forward` nor one of
            `PASSED_BY_LIBRARIES`.
    """
    for name, value in given.items():
        if value is None or name in PASSED_BY_LIBRARIES:
            continue
        parameters = inspect.signature(forward).parameters
        known = [known for known in parameters if known not in ("self", "kwargs")]
        nearest = get_close_matches(name, known, n=1, cutoff=0)[0]
        raise TypeError(
            f"forward() got an unknown argument {name!r}; did you mean {nearest!r}? "
            f"It takes {', '.join(known)}."
        )


def check_inputs(inputs: Inputs, config: LxmertConfig) -> tuple[Tensor, Tensor]:
    """Refuse inputs whose shapes do not fit the model or each other.

    Returns:
        `visual_feats` and `visual_pos`, which are known to be given.

    Raises:
        ValueError: if something is missing, given twice or has the wrong shape.
    """
    batch_size, text_len = _check_text(inputs, config)
    features, places = inputs.visual_feats, inputs.visual_pos
    if features is None or places is None:
        missing = "visual_feats" if features is None else "visual_pos"
        raise ValueError(
            f"{missing} is None, but the model reads images: pass visual_feats, region features "
            f"[batch, regions, {config.visual_feat_dim}], and visual_pos, their boxes "
            f"[batch, regions, {config.visual_pos_dim}]."
        )
    num_regions = features.shape[1] if features.dim() == 3 else "regions"
    _check_shape("visual_feats", features, (batch_size, num_regions, config.visual_feat_dim))
    _check_shape("visual_pos", places, (batch_size, num_regions, config.visual_pos_dim))
    heads = config.num_attention_heads
    _check_mask("attention_mask", inputs.attention_mask, batch_size, text_len, heads)
    _check_mask(
        "visual_attention_mask",
        inputs.visual_attention_mask,
        batch_size,
        features.shape[1],
        heads,
    )
    return features, places


def _check_text(inputs: Inputs, config: LxmertConfig) -> tuple[int, int]:
    """Check ids or embeddings and segments; return batch size and text length."""
    input_ids, inputs_embeds = inputs.input_ids, inputs.inputs_embeds
    if input_ids is not None and inputs_embeds is not None:
        raise ValueError("Both input_ids and inputs_embeds are given; pass only one of them.")
    if input_ids is not None:
        name, text = "input_ids", input_ids
        _check_shape(name, text, ("batch", "text_len"))
    elif inputs_embeds is not None:
        name, text = "inputs_embeds", inputs_embeds
        _check_shape(name, text, ("batch", "text_len", config.hidden_size))
    else:
        raise ValueError("Neither input_ids nor inputs_embeds is given; pass one of them.")
    batch_size, text_len = text.shape[:2]
    if text_len > config.max_position_embeddings:
        raise ValueError(
            f"{name} holds {text_len} word pieces, but the model has positions for "
            f"{config.max_position_embeddings}; cut the text with truncation=True, "
            f"max_length={config.max_position_embeddings} in the tokenizer."
        )
    if inputs.token_type_ids is not None:
        _check_shape("token_type_ids", inputs.token_type_ids, (batch_size, text_len))
    return batch_size, text_len


def _check_shape(name: str, given: Tensor, expected: tuple[int | str, ...]) -> None:
    """Compare a shape with the expected one, in which a name stands for any size."""
    fits = given.dim() == len(expected) and all(
        isinstance(wanted, str) or size == wanted
        for size, wanted in zip(given.shape, expected, strict=True)
    )
    if not fits:
        wanted = ", ".join(str(size) for size in expected)
        raise ValueError(f"{name} has shape {list(given.shape)}, expected [{wanted}].")


def _check_mask(
    name: str, mask: Tensor | None, batch_size: int, length: int, num_heads: int
) -> None:
    """Check that a mask is one of the three forms, and one whose 1 certainly means real."""
    if mask is None:
        return
    forms = {
        2: ((batch_size,), (length,)),
        3: ((batch_size,), (1, length), (length,)),
        4: ((batch_size,), (1, num_heads), (1, length), (length,)),
    }
    allowed = forms.get(mask.dim(), ())
    if not allowed or any(
        size not in sizes for size, sizes in zip(mask.shape, allowed, strict=True)
    ):
        raise ValueError(
            f"{name} has shape {list(mask.shape)}, expected [{batch_size}, {length}], "
            f"[{batch_size}, 1 or {length}, {length}] or "
            f"[{batch_size}, 1 or {num_heads}, 1 or {length}, {length}]."
        )
    if mask.dim() > 2 and mask.is_floating_point():
        raise ValueError(
            f"{name} is {mask.dim()}-dimensional and {mask.dtype}, which could be 1 for real or 0 "
            f"for real (additive); pass it as a boolean, such as `mask == 0` for an additive one."
        )
