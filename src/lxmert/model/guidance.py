"""Attention of words to regions that is guided to the regions that they are about."""

import torch
from torch import Tensor

from lxmert.model.attention import LxmertAttention
from lxmert.model.layers import LxmertXLayer
from lxmert.model.modeling import LxmertModel

_GUIDED_HEADS = 3
"""Number of attention heads that are guided; the others stay free."""


def first_cross_attention(model: LxmertModel) -> LxmertAttention:
    """Return the attention of words to regions in the first cross-modality layer."""
    layer = model.encoder.x_layers[0]
    assert isinstance(layer, LxmertXLayer)
    return layer.visual_attention.att


def attention_loss(
    attention: LxmertAttention, words: Tensor, regions: Tensor, meant: Tensor
) -> Tensor:
    """Return minus the log of the attention of words to the regions that are meant, summed.

    The mean over the guided heads. Source: attention is supervised as in Gan et al. 2017, "VQS:
    Linking segmentations to questions and answers for supervised attention in VQA", but any
    division among the regions is equally good.

    Args:
        attention: of words to regions, in the first cross-modality layer.
        words: `[words, hidden]`, encoded words.
        regions: `[words, regions, hidden]`, the encoded regions of the image of each.
        meant: `[words, regions]` bool, at least one for each word.
    """
    heads = attention.num_attention_heads
    query = attention.query(words).unflatten(-1, (heads, -1))[:, :_GUIDED_HEADS]
    key = attention.key(regions).unflatten(-1, (heads, -1))[:, :, :_GUIDED_HEADS]
    scores = torch.einsum("mhd,mchd->mhc", query.float(), key.float()) / query.shape[-1] ** 0.5
    elsewhere = ~meant[:, None]
    share: Tensor = scores.log_softmax(-1).masked_fill(elsewhere, -torch.inf).logsumexp(-1)
    return -share.mean(dim=1).sum()
