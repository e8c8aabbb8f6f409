"""Projects the states of words and regions into a plane, layer by layer."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lxmert.explain.inputs import Inputs, real_regions
from lxmert.explain.views import images_per_text
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.schema import FloatArray


class Projection(NamedTuple):
    """States of one layer in a plane.

    Attributes:
        title: name of the layer, or of both layers before the cross layers.
        words: `[words, 2]`, in `[-1, 1]`.
        regions: `[regions, 2]`, likewise.
        shown: share of the variance that the plane shows, in `[0, 1]`.
    """

    title: str
    words: FloatArray
    regions: FloatArray
    shown: float


def project_states(model: LxmertForQuestionAnswering, inputs: Inputs) -> tuple[Projection, ...]:
    """Project the states of one text and its regions after each layer.

    Each plane has the two directions of largest variance over words and regions together, and is
    turned so that points move as little as possible from the layer before.

    Args:
        model: in evaluation mode.
        inputs: a batch of one.

    Returns:
        The layers of both encoders of one modality, in pairs; then the cross layers.
    """
    with torch.inference_mode():
        output = model(**inputs, output_hidden_states=True, return_dict=True)
    real = real_regions(inputs)[0].cpu()
    number = images_per_text(model)
    words = [state.mean(dim=0) for state in output.language_hidden_states]  # over the images
    regions = [
        state.reshape(-1, state.shape[-1])[real.to(state.device)]
        if number > 1
        else state[0][real.to(state.device)]
        for state in output.vision_hidden_states
    ]
    projections: list[Projection] = []
    for title, word_layer, region_layer in _pair_layers(model):
        states = torch.cat([words[word_layer], regions[region_layer]])
        before = projections[-1] if projections else None
        projections.append(_project(title, states, len(words[word_layer]), before))
    return tuple(projections)


def _pair_layers(model: LxmertForQuestionAnswering) -> list[tuple[str, int, int]]:
    """Return titles, and the places of layers of words and of regions that are shown together."""
    config = model.config
    language, vision = config.l_layers, config.r_layers
    pairs = []
    for step in range(max(language, vision) if language and vision else 0):
        places = min(step, language - 1), min(step, vision - 1)
        title = f"language layer {places[0] + 1}, relationship layer {places[1] + 1}"
        pairs.append((title, *places))
    cross = range(config.x_layers)
    return pairs + [(f"cross layer {n + 1}", language + n, vision + n) for n in cross]


def _project(title: str, states: Tensor, num_words: int, before: Projection | None) -> Projection:
    """Project states `[words + regions, hidden]` into their plane of largest variance."""
    wide = states.double().cpu().numpy()
    left, lengths, _ = np.linalg.svd(wide - wide.mean(axis=0), full_matrices=False)
    plane = np.zeros((len(wide), 2))
    found = min(2, len(lengths))
    plane[:, :found] = left[:, :found] * lengths[:found]
    plane /= max(float(np.abs(plane).max()), 1e-12)
    if before is not None:
        # The rotation or reflection that best maps the plane to the one before (Procrustes).
        first, _, second = np.linalg.svd(plane.T @ np.concatenate([before.words, before.regions]))
        plane = plane @ (first @ second)
        plane /= max(float(np.abs(plane).max()), 1e-12)
    total = float((lengths**2).sum())
    shown = float((lengths[:2] ** 2).sum()) / total if total else 1.0
    flat = plane.astype(np.float32)
    return Projection(title, flat[:num_words], flat[num_words:], shown)
