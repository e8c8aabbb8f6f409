"""Projections of states: distances, variance and order against numpy's eigenvectors."""

import itertools

import numpy as np
import pytest
import torch
from model import tiny

from lxmert.explain.projection import Projection, project_states


def project() -> tuple[tuple[Projection, ...], list[np.ndarray]]:
    """Return projections of a tiny model, and the states of each layer."""
    network = tiny.build("LxmertForQuestionAnswering")
    generator = torch.Generator().manual_seed(3)
    inputs = {
        "input_ids": torch.randint(5, 50, (1, 7), generator=generator),
        "visual_feats": torch.rand(1, 5, 9, generator=generator),
        "visual_pos": torch.rand(1, 5, 5, generator=generator),
        "visual_attention_mask": torch.tensor([[1, 1, 1, 1, 0]]),
    }
    with torch.no_grad():
        output = network(**inputs, output_hidden_states=True)
    words, regions = output.language_hidden_states, output.vision_hidden_states
    # 2 language layers, 1 relationship layer, 3 cross layers.
    layers = [(0, 0), (1, 0), (2, 1), (3, 2), (4, 3)]
    states = [torch.cat([words[i][0], regions[j][0, :4]]).double().numpy() for i, j in layers]
    return project_states(network, inputs), states


def test_a_plane_has_the_two_directions_of_largest_variance() -> None:
    found, states = project()
    assert [each.title for each in found] == [
        "language layer 1, relationship layer 1",
        "language layer 2, relationship layer 1",
        "cross layer 1",
        "cross layer 2",
        "cross layer 3",
    ]
    for each, layer in zip(found, states, strict=True):
        assert (len(each.words), len(each.regions)) == (7, 4)
        variances, directions = np.linalg.eigh(np.cov(layer.T))
        assert each.shown == pytest.approx(variances[-2:].sum() / variances.sum(), abs=1e-6)
        expected = layer @ directions[:, -2:]
        points = np.concatenate([each.words, each.regions])
        ratios = [
            np.linalg.norm(points[i] - points[j]) / np.linalg.norm(expected[i] - expected[j])
            for i in range(11)
            for j in range(i)
        ]
        assert ratios == pytest.approx([ratios[0]] * len(ratios), rel=1e-3)
        assert np.abs(points).max() == pytest.approx(1)


def test_points_are_turned_toward_the_layer_before() -> None:
    found, _ = project()
    for before, after in itertools.pairwise(found):
        old, new = (np.concatenate([each.words, each.regions]) for each in (before, after))
        near = np.sum(old * new)
        for angle in np.linspace(0, 2 * np.pi, 37):
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            for mirror in (1, -1):
                assert np.sum(old * (new @ turn * [1, mirror])) <= near + 1e-4
