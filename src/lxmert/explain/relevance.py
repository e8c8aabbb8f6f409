"""Relevance propagation through two streams, as pure functions of matrices.

Source: Chefer, Gur, Wolf, Generic Attention-model Explainability for Interpreting Bi-Modal and
Encoder-Decoder Transformers (ICCV 2021); docstrings cite its equations.

Shapes: batch B; stream s with S positions, the other stream q with Q positions. `R_sq` is the
relevance of each position of q for each position of s. All matrices are `[batch, rows, columns]`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lxmert.explain.inputs import Inputs, real_regions, real_words
from lxmert.explain.maps import AttentionMaps


class Relevance(NamedTuple):
    """Relevance of each word and region for an answer; exactly 0 for `[CLS]` and padding.

    Units differ between methods and modalities, so only scores of one method and one modality can
    be compared.

    Attributes:
        words: `[batch, text_len]` float32, for each word piece.
        regions: `[batch, regions]` float32.
    """

    words: Tensor
    regions: Tensor


def zero_padding(inputs: Inputs, found: Relevance) -> Relevance:
    """Return scores in float32 that are exactly 0 for the padding of a batch."""
    return Relevance(
        found.words.float().masked_fill(~real_words(inputs), 0),
        found.regions.float().masked_fill(~real_regions(inputs), 0),
    )


def mean_positive(attention_map: Tensor, gradient: Tensor) -> Tensor:
    """Average heads, weighting each entry by its positive gradient (eq. 5).

    Args:
        attention_map: `[batch, heads, queries, keys]`.
        gradient: of the answer's score with respect to the map, same shape.

    Returns:
        `[batch, queries, keys]`, at least 0, in float32 or the wider type of the maps.
    """
    wide = torch.promote_types(attention_map.dtype, torch.float32)
    return (attention_map.to(wide) * gradient.to(wide)).clamp(min=0).mean(dim=1)


def update_self(own: Tensor, other: Tensor, mean_map: Tensor) -> tuple[Tensor, Tensor]:
    """Update a stream after self-attention (eq. 6, 7).

    Args:
        own: `R_ss`, `[batch, S, S]`.
        other: `R_sq`, `[batch, S, Q]`.
        mean_map: `[batch, S, S]`, from `mean_positive`.

    Returns:
        The new `R_ss` and `R_sq`.
    """
    return own + mean_map @ own, other + mean_map @ other


def update_cross(
    own: Tensor, other: Tensor, *, theirs: Tensor, back: Tensor, mean_map: Tensor
) -> tuple[Tensor, Tensor]:
    """Update a stream after attention to the other stream (eq. 10, 11).

    Args:
        own: `R_ss`, `[batch, S, S]`.
        other: `R_sq`, `[batch, S, Q]`.
        theirs: `R_qq`, `[batch, Q, Q]`.
        back: `R_qs`, `[batch, Q, S]`.
        mean_map: `[batch, S, Q]`, from `mean_positive`.

    Returns:
        The new `R_ss` and `R_sq`.
    """
    read = normalize(own).transpose(1, 2) @ mean_map @ normalize(theirs)
    return own + mean_map @ back, other + read


def normalize(own: Tensor) -> Tensor:
    """Normalize gathered relevance to the weight of the position itself (eq. 8, 9).

    Args:
        own: `R_ss`, `[batch, S, S]`, at least the identity.

    Returns:
        The identity plus the rest with rows that sum to 1, or to 0 if nothing was gathered (0 / 0
        in the published code).
    """
    identity = torch.eye(own.shape[-1], dtype=own.dtype, device=own.device)
    gathered = own - identity
    total = gathered.sum(dim=-1, keepdim=True)
    return gathered / torch.where(total > 0, total, 1) + identity


def propagate(maps: AttentionMaps, gradients: AttentionMaps) -> Relevance:
    """Propagate relevance through all layers (section 3.1).

    Matrices are float64 on the CPU: in float32, one plus a small relevance minus one would lose
    most digits, and Apple's GPUs have no float64.

    The published code skips the region side of the last cross layer. Here its gradients are zero
    and change nothing.

    Args:
        maps: of every encoder.
        gradients: of an answer's score with respect to the maps.

    Returns:
        The `[CLS]` rows: relevance of words and regions, on the device of the maps.
    """
    means = {
        kind: [
            mean_positive(*pair).cpu().double()
            for pair in zip(layers, gradients.kinds()[kind], strict=True)
        ]
        for kind, layers in maps.kinds().items()
    }
    batch, _, text_len, regions = maps.text_over_regions[0].shape
    like = means["text_over_regions"][0]
    words = torch.eye(text_len, dtype=like.dtype).expand(batch, -1, -1)
    images = torch.eye(regions, dtype=like.dtype).expand(batch, -1, -1)
    across, back = torch.zeros_like(like), torch.zeros_like(like).transpose(1, 2)
    for mean_map in means["language"]:
        words, across = update_self(words, across, mean_map)
    for mean_map in means["relationship"]:
        images, back = update_self(images, back, mean_map)
    for reads, is_read, text_map, region_map in zip(
        means["text_over_regions"],
        means["regions_over_text"],
        means["text_over_text"],
        means["regions_over_regions"],
        strict=True,
    ):
        # Both directions use the matrices from before the layer.
        (words, across), (images, back) = (
            update_cross(words, across, theirs=images, back=back, mean_map=reads),
            update_cross(images, back, theirs=words, back=across, mean_map=is_read),
        )
        words, across = update_self(words, across, text_map)
        images, back = update_self(images, back, region_map)
    # [CLS] is not relevant for itself: its entry is the initial identity.
    first = words[:, 0].clone()
    first[:, 0] = 0
    device = maps.text_over_regions[0].device
    return Relevance(first.float().to(device), across[:, 0].float().to(device))
