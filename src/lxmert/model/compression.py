"""Smaller weights of a trained model: magnitude pruning by encoder, and dropping of layers."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

ENCODERS = {
    "language": "lxmert.encoder.layer.",
    "vision": "lxmert.encoder.r_layers.",
    "cross": "lxmert.encoder.x_layers.",
}
"""Encoder -> beginning of the names of its weights; a number of the layer follows."""

SETTINGS = {"language": "l_layers", "vision": "r_layers", "cross": "x_layers"}
"""Encoder -> setting with its number of layers."""

Weights = Mapping[str, Tensor]


def prune(weights: Weights, shares: Mapping[str, float]) -> dict[str, Tensor]:
    """Set the smallest weights of each encoder to zero, by magnitude over all its matrices.

    Args:
        weights: weights by name; embeddings, heads, biases and norms are kept.
        shares: share of the weights to remove by encoder, in `[0, 1]`.

    Source: Han et al. 2015; for encoders of LXMERT, Gan et al. 2022, Playing Lottery Tickets with
    Vision and Language.
    """
    pruned = dict(weights)
    for encoder, share in shares.items():
        names = [n for n in weights if n.startswith(ENCODERS[encoder]) and weights[n].ndim == 2]
        if not names:
            continue
        sizes = torch.cat([weights[name].abs().flatten().float() for name in names])
        removed = round(share * len(sizes))
        if not removed:
            continue
        kept = torch.ones(len(sizes), dtype=torch.bool)
        kept[sizes.argsort(stable=True)[:removed]] = False
        parts = torch.split(kept, [weights[name].numel() for name in names])
        for name, part in zip(names, parts, strict=True):
            pruned[name] = weights[name] * part.view_as(weights[name])
    return pruned


def evenly(number: int, kept: int) -> list[int]:
    """Return which of several layers to keep: `kept` of them, evenly spaced, with the last one."""
    return [round((place + 1) * number / kept) - 1 for place in range(kept)]


def drop_layers(weights: Weights, kept: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Keep some layers of each encoder, renumbered from 0.

    Args:
        weights: weights by name.
        kept: numbers of the layers to keep by encoder, increasing; encoders that are not named
            keep all.

    Source: Fan et al. 2020 (LayerDrop) and Sanh et al. 2019 (DistilBERT) for evenly spaced layers.
    """
    found = {}
    for name, value in weights.items():
        encoder = next((e for e in kept if name.startswith(ENCODERS[e])), None)
        if encoder is None:
            found[name] = value
            continue
        layer, _, rest = name.removeprefix(ENCODERS[encoder]).partition(".")
        if int(layer) in kept[encoder]:
            place = list(kept[encoder]).index(int(layer))
            found[f"{ENCODERS[encoder]}{place}.{rest}"] = value
    return found
