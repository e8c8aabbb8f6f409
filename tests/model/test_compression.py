"""Pruning and dropping of layers, against sorting by hand and models built by hand."""

import pytest
import torch
from torch import nn

from lxmert.model.compression import ENCODERS, SETTINGS, drop_layers, evenly, prune
from lxmert.model.configuration import LxmertConfig
from lxmert.model.heads import LxmertForQuestionAnswering

SIZES = {
    "l_layers": 4, "r_layers": 3, "x_layers": 2, "hidden_size": 16, "num_attention_heads": 2,
    "intermediate_size": 20, "vocab_size": 50, "num_qa_labels": 7, "visual_feat_dim": 6,
}  # fmt: skip


def build() -> LxmertForQuestionAnswering:
    torch.manual_seed(3)
    return LxmertForQuestionAnswering(LxmertConfig(**SIZES)).eval()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_smallest_weights_of_one_encoder_are_removed(encoder: str) -> None:
    weights = build().state_dict()
    pruned = prune(weights, {encoder: 0.3})
    own = [n for n in weights if n.startswith(ENCODERS[encoder]) and weights[n].ndim == 2]
    assert own
    before = torch.cat([weights[name].flatten() for name in own])
    after = torch.cat([pruned[name].flatten() for name in own])
    removed = round(0.3 * len(before))
    threshold = before.abs().sort().values[removed - 1]
    torch.testing.assert_close(after, torch.where(before.abs() <= threshold, 0, before))
    assert int((after == 0).sum()) == removed
    for name in weights.keys() - set(own):
        assert torch.equal(weights[name], pruned[name]), name


def test_a_share_of_nothing_changes_nothing() -> None:
    weights = build().state_dict()
    for name, value in prune(weights, dict.fromkeys(ENCODERS, 0.0)).items():
        assert torch.equal(value, weights[name])
    assert not prune(weights, {"cross": 1.0})[
        "lxmert.encoder.x_layers.0.lang_inter.dense.weight"
    ].any()


def test_layers_are_spaced_evenly_and_the_last_is_kept() -> None:
    assert evenly(9, 3) == [2, 5, 8]
    assert evenly(5, 5) == [0, 1, 2, 3, 4]
    assert evenly(5, 1) == [4]
    for number in range(1, 12):
        for kept in range(1, number + 1):
            rows = evenly(number, kept)
            assert rows == sorted(set(rows))
            assert (len(rows), rows[-1]) == (kept, number - 1)
            assert rows[0] >= 0


def test_a_model_without_layers_is_one_built_without_them() -> None:
    model = build()
    kept = {"language": [1, 3], "vision": [2], "cross": [1]}
    smaller = LxmertForQuestionAnswering(
        LxmertConfig(**SIZES | {SETTINGS[name]: len(rows) for name, rows in kept.items()})
    ).eval()
    smaller.load_state_dict(drop_layers(model.state_dict(), kept))
    encoder = model.lxmert.encoder
    encoder.layer = nn.ModuleList([encoder.layer[1], encoder.layer[3]])
    encoder.r_layers = nn.ModuleList([encoder.r_layers[2]])
    encoder.x_layers = nn.ModuleList([encoder.x_layers[1]])
    inputs = {
        "input_ids": torch.randint(50, (2, 5)),
        "visual_feats": torch.rand(2, 3, 6),
        "visual_pos": torch.rand(2, 3, 4),
    }
    with torch.no_grad():
        torch.testing.assert_close(
            smaller(**inputs).question_answering_score, model(**inputs).question_answering_score
        )
