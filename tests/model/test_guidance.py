"""Guided attention, compared with the maps that the model returns."""

import pytest
import torch

from lxmert import LxmertConfig, LxmertModel
from lxmert.model.guidance import attention_loss, first_cross_attention


def test_the_attention_loss_is_that_of_the_maps_that_the_model_returns():
    torch.manual_seed(4)
    config = LxmertConfig(
        hidden_size=16, num_attention_heads=4, intermediate_size=16, vocab_size=30, l_layers=1,
        r_layers=1, x_layers=1, visual_feat_dim=6, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, initializer_range=0.5,
    )  # fmt: skip
    model = LxmertModel(config).eval()
    text, image = torch.randint(1, 30, (1, 5)), (torch.randn(1, 7, 6), torch.rand(1, 7, 4))
    maps = model(text, *image, output_attentions=True).cross_encoder_attentions[0][0]
    named = torch.tensor([[1, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 0]], dtype=torch.bool)
    shares = [maps[:3, word, cells].sum(-1) for word, cells in zip((1, 3), named, strict=True)]
    words = model.encode_text(text).last_hidden_state[0, [1, 3]]
    cells = model.encode_image(*image).last_hidden_state.expand(2, -1, -1)
    loss = attention_loss(first_cross_attention(model), words, cells, named)
    assert loss.item() == pytest.approx(-sum(s.log().mean().item() for s in shares), rel=1e-4)
