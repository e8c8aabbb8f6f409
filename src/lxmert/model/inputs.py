"""Checks of the inputs of `forward`, with errors that say what is expected."""

import inspect
import math
from collections.abc import Callable, Mapping
from difflib import SequenceMatcher
from typing import NamedTuple

import torch
from torch import Tensor

from lxmert.model.configuration import LxmertConfig
from lxmert.model.outputs import LxmertEncodedStream
from lxmert.model.tracing import is_traced

PASSED_BY_LIBRARIES = frozenset({"num_items_in_batch", "return_loss", "use_cache"})
"""Keywords that trainers and wrappers pass to every model, which are ignored."""


class Inputs(NamedTuple):
    """The inputs of every LXMERT model; shapes as in `LxmertModel.forward`."""

    input_ids: Tensor | None = None
    visual_feats: Tensor | None = None
    visual_pos: Tensor | None = None
    attention_mask: Tensor | None = None
    visual_attention_mask: Tensor | None = None
    token_type_ids: Tensor | None = None
    inputs_embeds: Tensor | None = None
    encoded_text: LxmertEncodedStream | None = None
    encoded_image: LxmertEncodedStream | None = None


def check_keywords(given: Mapping[str, object], forward: Callable[..., object]) -> None:
    """Reject unknown keywords of `forward`, which would otherwise be ignored silently.

    Raises:
        TypeError: if a keyword with a value is neither an argument of `forward` nor one of
            `PASSED_BY_LIBRARIES`.
    """
    for name, value in given.items():
        if value is None or name in PASSED_BY_LIBRARIES:
            continue
        parameters = inspect.signature(forward).parameters
        known = [known for known in parameters if known not in ("self", "kwargs")]
        nearest = _nearest(name, known)
        raise TypeError(
            f"forward() got an unknown argument {name!r}; did you mean {nearest!r}? "
            f"It takes {', '.join(known)}"
        )


def _nearest(name: str, known: list[str]) -> str:
    """Return the name with the most words in common; the most similar one among several."""
    words = set(name.split("_"))
    return max(
        known,
        key=lambda each: (
            len(words & set(each.split("_"))),
            SequenceMatcher(None, name, each).ratio(),
        ),
    )


def check_inputs(inputs: Inputs, config: LxmertConfig) -> None:
    """Reject inputs whose shapes do not fit the model or each other.

    Raises:
        ValueError: if something is missing, given twice or has the wrong shape.
    """
    text_batch, image_batch = check_text(inputs, config), check_image(inputs, config)
    if text_batch != image_batch:
        raise ValueError(
            f"the batch has {text_batch} texts and {image_batch} images, expected equal numbers: "
            "repeat shared texts or images, or rows of encoded ones with take(rows)"
        )


def check_text(inputs: Inputs, config: LxmertConfig) -> int:
    """Check the text side of `check_inputs`; return its batch size."""
    choices = ("input_ids", "inputs_embeds", "encoded_text")
    given = [name for name in choices if getattr(inputs, name) is not None]
    if len(given) != 1:
        what = f"{' and '.join(given)} are given" if given else "No text is given"
        raise ValueError(
            f"{what}, expected exactly one of input_ids, inputs_embeds and encoded_text"
        )
    if inputs.encoded_text is not None:
        _refuse_beside(inputs, "encoded_text", ("attention_mask", "token_type_ids"))
        return _check_stream("encoded_text", inputs.encoded_text, config)
    (name,) = given
    text: Tensor = getattr(inputs, name)
    width = () if name == "input_ids" else (config.hidden_size,)
    _check_shape(name, text, ("batch", "text_len", *width))
    batch_size, text_len = text.shape[:2]
    if text_len > config.max_position_embeddings:
        raise ValueError(
            f"{name} has {text_len} word pieces, but the model has positions for "
            f"{config.max_position_embeddings}: truncate the text with truncation=True, "
            f"max_length={config.max_position_embeddings} in the tokenizer"
        )
    _check_not_empty(name, text)
    if name == "input_ids":
        _check_ids(name, text, config.vocab_size, "vocab_size")
    if inputs.token_type_ids is not None:
        _check_shape("token_type_ids", inputs.token_type_ids, (batch_size, text_len))
        _check_ids(
            "token_type_ids", inputs.token_type_ids, config.type_vocab_size, "type_vocab_size"
        )
    _check_mask("attention_mask", inputs.attention_mask, (batch_size, text_len), config)
    return batch_size


def check_image(inputs: Inputs, config: LxmertConfig) -> int:
    """Check the image side of `check_inputs`; return its batch size."""
    if inputs.encoded_image is not None:
        others = ("visual_feats", "visual_pos", "visual_attention_mask")
        _refuse_beside(inputs, "encoded_image", others)
        return _check_stream("encoded_image", inputs.encoded_image, config)
    features, boxes = inputs.visual_feats, inputs.visual_pos
    if features is None or boxes is None:
        missing = "visual_feats" if features is None else "visual_pos"
        raise ValueError(
            f"{missing} is None, but the model needs images: pass visual_feats, region features "
            f"[batch, regions, {config.visual_feat_dim}], and visual_pos, their boxes "
            f"[batch, regions, {config.visual_pos_dim}]; or encoded_image instead of both"
        )
    _check_shape("visual_feats", features, ("batch", "regions", config.visual_feat_dim))
    size = (features.shape[0], features.shape[1])
    _check_shape("visual_pos", boxes, (*size, config.visual_pos_dim))
    _check_mask("visual_attention_mask", inputs.visual_attention_mask, size, config)
    return size[0]


def check_several_images(
    features: Tensor | None, boxes: Tensor | None, mask: Tensor | None, config: LxmertConfig
) -> None:
    """Reject a number of images per text other than the model's; None is not checked.

    Raises:
        ValueError: if the second dimension of one of them is not `num_images`.
    """
    shape = ("batch", config.num_images, "regions")
    if features is not None:
        _check_shape("visual_feats", features, (*shape, config.visual_feat_dim))
    if boxes is not None:
        _check_shape("visual_pos", boxes, (*shape, config.visual_pos_dim))
    if mask is not None:
        _check_shape("visual_attention_mask", mask, shape)


def check_labels(name: str, labels: Tensor, size: tuple[int, ...]) -> None:
    """Reject labels with a wrong number of elements; their shape may differ.

    Raises:
        ValueError: naming both shapes.
    """
    if labels.numel() != math.prod(size):
        raise ValueError(f"{name} has shape {list(labels.shape)}, expected {list(size)}")


def _refuse_beside(inputs: Inputs, encoded: str, others: tuple[str, ...]) -> None:
    """Reject arguments that an encoded side already contains."""
    twice = [name for name in others if getattr(inputs, name) is not None]
    if twice:
        raise ValueError(
            f"{' and '.join(twice)} given beside {encoded}, which contains them: leave them out"
        )


def _check_stream(name: str, stream: LxmertEncodedStream, config: LxmertConfig) -> int:
    """Check the width of an encoded side; return its batch size."""
    state = stream.last_hidden_state
    _check_shape(f"{name}.last_hidden_state", state, ("batch", "length", config.hidden_size))
    return state.shape[0]


def _check_shape(name: str, given: Tensor, expected: tuple[int | str, ...]) -> None:
    """Compare a shape with the expected one, in which a name means any size."""
    if not hasattr(given, "dim"):
        raise TypeError(f"{name} is a {type(given).__name__}, expected a tensor")
    fits = given.dim() == len(expected) and all(
        isinstance(wanted, str) or size == wanted
        for size, wanted in zip(given.shape, expected, strict=True)
    )
    if not fits:
        wanted = ", ".join(str(size) for size in expected)
        raise ValueError(f"{name} has shape {list(given.shape)}, expected [{wanted}]")


def _check_not_empty(name: str, given: Tensor) -> None:
    if not is_traced(given) and given.numel() == 0:
        raise ValueError(
            f"{name} has shape {list(given.shape)}, which is empty: pass at least one element"
        )


def _check_ids(name: str, ids: Tensor, number: int, setting: str) -> None:
    """Reject ids outside of an embedding; on a CPU only, where reading values is cheap."""
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise ValueError(f"{name} is {ids.dtype}, expected integers, such as {name}.long()")
    if ids.device.type != "cpu" or is_traced(ids) or not ids.numel():
        return
    least, most = (int(value) for value in ids.aminmax())
    if least < 0 or most >= number:
        raise ValueError(
            f"{name} contains {least if least < 0 else most}, expected 0 to {number - 1} "
            f"({setting} is {number}): use the tokenizer of the model"
        )


def _check_mask(
    name: str, mask: Tensor | None, size: tuple[int, int], config: LxmertConfig
) -> None:
    """Check that a mask has one of three shapes and that 1 means visible in it."""
    if mask is None:
        return
    (batch_size, length), num_heads = size, config.num_attention_heads
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
            f"[{batch_size}, 1 or {num_heads}, 1 or {length}, {length}]"
        )
    if mask.dim() > 2 and mask.is_floating_point():
        raise ValueError(
            f"{name} is {mask.dim()}-dimensional and {mask.dtype}, which may be additive (0 for "
            "visible): pass a boolean mask, such as `mask == 0` for an additive one"
        )
