"""Answers of a model with some of the regions or words removed."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lxmert.explain.inputs import Inputs
from lxmert.explain.views import images_per_text, rows_by_image, split_images
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.model.outputs import LxmertEncodedStream

CHUNK = 64
"""Variants per forward pass, to bound memory."""


@torch.inference_mode()
def answer_with_regions(
    model: LxmertForQuestionAnswering, inputs: Inputs, rows: Tensor, *, kept: Tensor
) -> Tensor:
    """Answer questions with some regions (features and boxes) removed.

    Args:
        model: in evaluation mode.
        inputs: a batch of questions; each text is encoded once.
        rows: `[variants]`, the batch row that each variant belongs to.
        kept: `[variants, regions]`, True for real regions to keep; with none left, the model sees
            only the text.

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
    """Answer questions with some word pieces removed; the remaining ones close up.

    Args:
        model: in evaluation mode.
        inputs: a batch of questions; each image is encoded once.
        rows: `[variants]`, the batch row that each variant belongs to.
        kept: `[variants, text_len]`, True for real word pieces to keep.

    Returns:
        `[variants, answers]` scores before softmax.
    """
    names = ("visual_feats", "visual_pos", "visual_attention_mask")
    encoded = model.lxmert.encode_image(*map(rows_by_image(model, inputs).get, names))
    number = images_per_text(model)
    images = torch.arange(len(inputs["input_ids"]) * number).view(-1, number).to(rows.device)
    scores = [
        model(
            encoded_image=encoded.take(images[chunk]),
            return_dict=True,
            **_shorten(inputs, chunk, mask),
        ).question_answering_score
        for chunk, mask in _chunks(rows, kept)
    ]
    return torch.cat(scores)


@torch.inference_mode()
def answer_with_both(
    model: LxmertForQuestionAnswering, inputs: Inputs, *, kept_words: Tensor, kept_regions: Tensor
) -> Tensor:
    """Answer one question with some word pieces and some regions removed.

    Args:
        model: in evaluation mode.
        inputs: a batch of one question.
        kept_words: `[variants, text_len]`, as in `answer_with_words`.
        kept_regions: `[variants, regions]`, as in `answer_with_regions`.

    Returns:
        `[variants, answers]` scores before softmax.
    """
    # Many variants differ in their regions only.
    texts, text_of = torch.unique(kept_words, dim=0, return_inverse=True)
    encoded = _encode_texts(model, inputs, texts)
    # Variants of similar size share a forward pass, so that little padding is computed.
    order = (kept_words.sum(dim=1) + kept_regions.sum(dim=1)).argsort(stable=True)
    scores = [
        model(
            encoded_text=encoded.take(text_of[chunk]),
            return_dict=True,
            **_fewer_regions(inputs, kept_regions[chunk], images_per_text(model)),
        ).question_answering_score
        for chunk in torch.split(order, CHUNK)
    ]
    return torch.cat(scores)[order.argsort()]


def _encode_texts(
    model: LxmertForQuestionAnswering, inputs: Inputs, kept: Tensor
) -> LxmertEncodedStream:
    """Encode one question with only the words of each row of `kept`."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    sizes = kept.sum(dim=1)
    shape = (len(kept), int(sizes.max()))
    states = torch.zeros(*shape, model.config.hidden_size, dtype=model.dtype, device=kept.device)
    mask = torch.zeros(shape, dtype=torch.long, device=kept.device)
    for chunk in torch.split(sizes.argsort(stable=True), CHUNK):
        shorter = _shorten(inputs, torch.zeros_like(chunk), kept[chunk])
        encoded = model.lxmert.encode_text(*map(shorter.get, names)).last_hidden_state
        states[chunk, : encoded.shape[1]] = encoded
        mask[chunk, : encoded.shape[1]] = shorter["attention_mask"]
    return LxmertEncodedStream(states, mask)


def _chunks(rows: Tensor, kept: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Split variants into chunks of at most `CHUNK`."""
    return zip(torch.split(rows, CHUNK), torch.split(kept, CHUNK), strict=True)


def _fewer_regions(inputs: Inputs, kept: Tensor, number: int) -> dict[str, Tensor]:
    """Return only the kept regions of one text for each variant, padded to the largest number.

    Args:
        inputs: a batch of one question.
        kept: `[variants, images * regions]`.
        number: number of images.
    """
    by_image = split_images(kept, number)
    most = max(1, int(by_image.sum(dim=1).max()))
    order = by_image.int().argsort(dim=1, descending=True, stable=True)[:, :most]
    images = torch.arange(number, device=kept.device).repeat(len(kept))[:, None]
    fewer = {
        name: split_images(inputs[name], number)[images, order]
        for name in ("visual_feats", "visual_pos")
    }
    fewer["visual_attention_mask"] = by_image.gather(1, order).long()
    # [variants * images, most, ...] -> [variants, images * most, ...]
    return {
        name: value.reshape(len(kept), number * most, *value.shape[2:])
        for name, value in fewer.items()
    }


def _shorten(inputs: Inputs, rows: Tensor, kept: Tensor) -> dict[str, Tensor]:
    """Return the texts of `rows` with only the words of `kept`, padded to the longest of them."""
    longest = int(kept.sum(dim=1).max())
    order = kept.int().argsort(dim=1, descending=True, stable=True)[:, :longest]
    shorter = {
        name: inputs[name][rows].gather(1, order)
        for name in ("input_ids", "token_type_ids")
        if name in inputs
    }
    return shorter | {"attention_mask": kept.gather(1, order).long()}
