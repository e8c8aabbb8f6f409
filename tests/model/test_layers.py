import pytest
import torch
from torch.testing import assert_close

from lxmert.model.encoder import LxmertEncoder
from lxmert.model.layers import LxmertEmbeddings, LxmertVisualFeatureEncoder
from lxmert.model.modeling import LxmertModel
from lxmert.model.pretraining import LxmertForPreTraining

from . import tiny


def test_first_position_and_segment_are_initialized():
    """A3: rows 0 of positions and segments were padding: zero at the start, never trained."""
    embeddings = LxmertModel(tiny.config()).embeddings
    assert embeddings.position_embeddings.weight[0].abs().max() > 1e-3
    assert embeddings.token_type_embeddings.weight[0].abs().max() > 1e-3
    assert embeddings.word_embeddings.weight[0].abs().max() == 0


def test_text_without_segments_is_segment_zero():
    """B3: embedding a text without `token_type_ids` raised an AttributeError."""
    embeddings = tiny.randomize(LxmertEmbeddings(tiny.config()))
    words = torch.tensor([[5, 8, 13]])
    expected = embeddings(words, torch.zeros_like(words))
    assert_close(embeddings(words), expected, rtol=0, atol=0)
    assert (embeddings(words, torch.ones_like(words)) - expected).abs().max() > 0.1


def test_positions_are_visible_at_initialization():
    """A random bias of the box layer (+-0.5 beside weights of 0.02) drowned the positions.

    Without any bias, what all boxes share did: their coordinates are positive. After pretraining a
    linear probe could not recover positions (R2 0.03).
    """
    torch.manual_seed(8)
    encoder = LxmertModel(tiny.config(hidden_size=256, visual_pos_dim=4)).encoder.visn_fc.eval()
    features = torch.randn(1, 1, 9).expand(1, 2, 9)
    places = torch.tensor([[[0.0, 0.0, 0.2, 0.2], [0.8, 0.1, 1.0, 0.4]]])

    def cosine():
        first, second = encoder(features, places)[0]
        return torch.cosine_similarity(first, second, dim=0).item()

    middle = encoder.box_fc(torch.full((4,), 0.5))
    assert_close(middle, torch.zeros(256), rtol=0, atol=1e-6)
    assert cosine() < 0.6
    torch.nn.init.zeros_(encoder.box_fc.bias)
    assert cosine() > 0.8
    torch.nn.init.uniform_(encoder.box_fc.bias, -0.5, 0.5)
    assert cosine() > 0.99


def test_masked_regions_do_not_dominate_the_gradient():
    """A region of zeros was embedded as the layer norm of a zero vector.

    With the usual zero bias its gradient is `1 / sqrt(eps)`, a million: in pretraining one bias had
    50,000 times the gradient of all other weights together, and clipping left nothing of those.
    """
    torch.manual_seed(8)
    model = LxmertForPreTraining(tiny.config())
    given = tiny.inputs()
    given["visual_feats"][:, 0] = 0
    model(**given, output_predictions=True).object_logits.square().mean().backward()
    norms = {name: p.grad.norm() for name, p in model.named_parameters() if p.grad is not None}
    bias = norms.pop("lxmert.encoder.visn_fc.visn_fc.bias")
    assert 0 < bias < torch.stack(list(norms.values())).norm()


def test_region_embedding_is_the_mean_of_two_norms():
    encoder = tiny.randomize(LxmertVisualFeatureEncoder(tiny.config()))
    features, places = torch.randn(2, 3, 9), torch.rand(2, 3, 5)
    looks = encoder.visn_layer_norm(encoder.visn_fc(features))
    where = encoder.box_layer_norm(encoder.box_fc(places))
    assert_close(encoder(features, places), looks / 2 + where / 2)


def test_model_without_any_layer_runs():
    """B4: without layers a tuple of states was empty and its last item missing."""
    model = tiny.build("LxmertModel", l_layers=0, x_layers=0, r_layers=0)
    given = tiny.inputs()
    output = model(**given, output_hidden_states=True, output_attentions=True)
    text = model.embeddings(given["input_ids"], given["token_type_ids"])
    regions = model.encoder.visn_fc(given["visual_feats"], given["visual_pos"])
    assert_close(output.language_output, text, rtol=0, atol=0)
    assert_close(output.vision_output, regions, rtol=0, atol=0)
    assert output.language_hidden_states == ()
    assert output.cross_encoder_attentions == ()


@pytest.mark.parametrize(("l_layers", "r_layers"), [(0, 2), (2, 0)])
def test_model_without_cross_layers_runs(l_layers, r_layers):
    """B4 for one stream only."""
    model = tiny.build("LxmertModel", l_layers=l_layers, x_layers=0, r_layers=r_layers)
    output = model(**tiny.inputs(), output_hidden_states=True)
    assert len(output.language_hidden_states) == l_layers
    assert len(output.vision_hidden_states) == r_layers


def test_encoder_called_alone_keeps_its_published_form():
    """Users call the encoder and unpack states, maps and cross maps by position."""
    config = tiny.config()
    config._attn_implementation = "eager"
    encoder = tiny.randomize(LxmertEncoder(config))
    theirs = tiny.build_reference("LxmertModel").encoder
    theirs.load_state_dict(encoder.state_dict())
    given = tiny.inputs()
    text = torch.randn(tiny.BATCH, tiny.TEXT_LEN, 32)
    hidden = (1 - given["attention_mask"].float())[:, None, None] * torch.finfo(torch.float).min
    arguments = (text, hidden, given["visual_feats"], given["visual_pos"], None)
    ours, expected = encoder(*arguments, True), theirs(*arguments, True)
    assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_cross_layer_called_alone_keeps_its_published_form():
    """With all four maps in its result, users could not unpack text, regions and the map."""
    layer = tiny.build("LxmertModel").encoder.x_layers[1]
    theirs = tiny.build_reference("LxmertModel").encoder.x_layers[1]
    theirs.load_state_dict(layer.state_dict())
    text, regions = torch.randn(2, 3, 32), torch.randn(2, 4, 32)
    for flags in ((False,), (True,)):
        ours = layer(text, None, regions, None, *flags)
        assert_close(ours, theirs(text, None, regions, None, *flags), rtol=1e-5, atol=1e-5)


def test_encoder_flag_overrides_the_configuration():
    """B1: `output_attentions=False` beside a configuration that says True was an IndexError."""
    model = tiny.build("LxmertModel", output_attentions=True)
    given = tiny.inputs()
    assert len(model(**given).language_attentions) == 2
    assert model(**given, output_attentions=False).language_attentions is None


def test_cross_layer_reads_the_streams_as_they_came_in():
    layer = tiny.build("LxmertModel").encoder.x_layers[0]
    text, regions = torch.randn(2, 3, 32), torch.randn(2, 4, 32)
    # The text side depends on regions as they were, not on what regions read from the text.
    lang, _ = layer.visual_attention(text, regions)
    lang, _ = layer.lang_self_att(lang)
    expected = layer.lang_output(layer.lang_inter(lang), lang)
    visual, _ = layer.visual_attention(regions, text)
    visual, _ = layer.visn_self_att(visual)
    expected_visual = layer.visn_output(layer.visn_inter(visual), visual)
    result = layer(text, None, regions, None)
    assert_close(result, (expected, expected_visual), rtol=1e-5, atol=1e-5)
