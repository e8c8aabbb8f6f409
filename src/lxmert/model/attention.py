"""Attention: masks, the attention module, and attention layers with residual and layer norm.

Shapes: batch B, heads H, queries Q, keys K, head width D; hidden = H * D.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from lxmert.model.configuration import LxmertConfig
from lxmert.model.packing import Packing, find_packing
from lxmert.model.tracing import is_traced


class AttentionMask(NamedTuple):
    """Which keys each query attends to, as a bias on the attention scores.

    Attributes:
        bias: `[batch, 1 or heads, 1 or queries, keys]`, 0 for a visible key, else a large negative
            number; None if all keys are visible.
        has_key: `[batch, 1 or heads, 1 or queries, 1]`, 1 if the query has a visible key, else 0;
            None if every query has one.
        queries: how the queries are packed; None if they are padded.
        keys: how the keys are packed; None if they are padded.
    """

    bias: Tensor | None
    has_key: Tensor | None
    queries: Packing | None = None
    keys: Packing | None = None


class StreamMask(NamedTuple):
    """Which positions of one stream are visible, to the stream itself and to the other one.

    Attributes:
        within: mask for self-attention; None means all positions are visible.
        across: mask for cross-attention, with queries of the other stream.
        packing: how the stream is packed; None if it is padded.
    """

    within: AttentionMask | Tensor | None
    across: AttentionMask | Tensor | None
    packing: Packing | None = None

    def pack(self, padded: Tensor) -> Tensor:
        """Remove the padding of `[batch, length, width]`, if the stream is packed."""
        return padded if self.packing is None else self.packing.pack(padded)

    def for_queries_of(self, other: "StreamMask") -> AttentionMask | Tensor | None:
        """Return `across` for the queries of the other stream, which may be packed."""
        if other.packing is None:
            return self.across
        mask = self.across
        if not isinstance(mask, AttentionMask):
            mask = AttentionMask(mask, None)
        return mask._replace(queries=other.packing)


def attention_dtype(hidden_states: Tensor) -> torch.dtype:
    """Return the dtype in which attention on `hidden_states` computes its scores."""
    device_type = hidden_states.device.type
    # The meta device has no autocast.
    if device_type != "meta" and torch.is_autocast_enabled(device_type):
        return torch.get_autocast_dtype(device_type)
    return hidden_states.dtype


def additive_mask(visible: Tensor, dtype: torch.dtype) -> AttentionMask | None:
    """Convert a boolean mask to a bias.

    On a CPU, where reading values is cheap, a mask that hides no key becomes None.

    Args:
        visible: boolean `[batch, 1 or heads, 1 or queries, keys]`, True for a visible key.
        dtype: dtype of the attention scores.

    Returns:
        The mask, or None if it has no effect.
    """
    may_read_values = visible.device.type == "cpu" and not is_traced(visible)
    if may_read_values and bool(visible.all()):
        return None
    # Half of the smallest number stays finite after adding a score. A query without any visible key
    # then gets a uniform map, which `has_key` clears, instead of 0 / 0.
    bias = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    bias = bias.masked_fill_(~visible, torch.finfo(dtype).min / 2)
    has_key = visible.any(dim=-1, keepdim=True)
    if may_read_values and bool(has_key.all()):
        return AttentionMask(bias, None)
    return AttentionMask(bias, has_key.to(dtype))


def stream_mask(given: Tensor | None, hidden_states: Tensor, *, pack: bool = False) -> StreamMask:
    """Prepare the masks of one stream for self-attention and cross-attention.

    Args:
        given: `[batch, length]`, `[batch, 1 or length, length]` or
            `[batch, 1 or heads, 1 or length, length]`, 1 for a visible position; None means all are
            visible. A position that is hidden from its whole own stream is hidden from the other.
        hidden_states: `[batch, length, hidden]`, the embedded stream.
        pack: whether padding may be removed if that is faster.
    """
    if given is None:
        return StreamMask(None, None)
    dtype = attention_dtype(hidden_states)
    visible = given.to(device=hidden_states.device, dtype=torch.bool)
    if visible.dim() == 2:
        mask = additive_mask(visible[:, None, None, :], dtype)
        packing = find_packing(visible) if pack else None
        if packing is None or mask is None:
            return StreamMask(mask, mask)
        across = mask._replace(keys=packing)
        return StreamMask(across._replace(queries=packing), across, packing)
    if visible.dim() == 3:
        visible = visible[:, None]
    # [batch, heads, queries, keys] -> [batch, 1, 1, keys]
    visible_to_any = visible.flatten(1, 2).any(dim=1)[:, None, None, :]
    return StreamMask(additive_mask(visible, dtype), additive_mask(visible_to_any, dtype))


def as_stream_mask(mask: StreamMask | Tensor | None) -> StreamMask:
    """Use a plain mask for both self-attention and cross-attention."""
    return mask if isinstance(mask, StreamMask) else StreamMask(mask, mask)


def rows_of_first_query(mask: AttentionMask | Tensor | None) -> AttentionMask | Tensor | None:
    """Restrict a mask `[..., queries, keys]` to the first query."""
    if isinstance(mask, AttentionMask):
        bias = None if mask.bias is None else mask.bias[..., :1, :]
        has_key = None if mask.has_key is None else mask.has_key[..., :1, :]
        return AttentionMask(bias, has_key, queries=None, keys=mask.keys)
    return None if mask is None else mask[..., :1, :]


def attend_eagerly(
    query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask | None, *, dropout: float
) -> tuple[Tensor, Tensor]:
    """Compute attention in separate steps, so that the map can be returned and differentiated.

    Args:
        query: `[batch, heads, queries, head_dim]`.
        key: `[batch, heads, keys, head_dim]`.
        value: `[batch, heads, keys, head_dim]`.
        mask: which keys are visible; None means all.
        dropout: dropout probability of the map.

    Returns:
        The result, `[batch, queries, heads, head_dim]`, and the map before dropout,
        `[batch, heads, queries, keys]`: rows sum to 1, or to 0 without a visible key.
    """
    scores = torch.matmul(query, key.transpose(-1, -2)).mul_(query.shape[-1] ** -0.5)
    if mask is not None and mask.bias is not None:
        scores = scores.add_(mask.bias)
    probabilities = scores.softmax(dim=-1)
    if mask is not None and mask.has_key is not None:
        probabilities = probabilities * mask.has_key
    kept = functional.dropout(probabilities, dropout) if dropout else probabilities
    return torch.matmul(kept, value).transpose(1, 2), probabilities


class LxmertAttention(nn.Module):
    """Multi-head attention of one sequence over another, or over itself."""

    # Without a mask, the fused implementations assume a causal decoder unless this is False.
    is_causal = False

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.config = config
        self.num_attention_heads = config.num_attention_heads
        self.attention_head_size = config.hidden_size // config.num_attention_heads
        self.scaling = self.attention_head_size**-0.5
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def forward(
        self,
        hidden_states: Tensor,
        context: Tensor,
        attention_mask: AttentionMask | Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Let each position of `hidden_states` attend to `context`.

        Args:
            hidden_states: `[batch, queries, hidden]`, or packed `[tokens, hidden]`.
            context: `[batch, keys, hidden]`, or packed `[tokens, hidden]`.
            attention_mask: which keys are visible, and how both sides are packed; a plain tensor
                is added to the scores.
            output_attentions: whether to return the map; fused implementations cannot return it,
                so attention is then computed eagerly.

        Returns:
            The attended values, in the shape of `hidden_states`; and the map before dropout,
            `[batch, heads, queries, keys]`, or None.
        """
        if isinstance(attention_mask, Tensor):
            attention_mask = AttentionMask(attention_mask, None)
        queries = None if attention_mask is None else attention_mask.queries
        keys = None if attention_mask is None else attention_mask.keys
        query = self._split_heads(self.query(hidden_states), queries)
        key = self._split_heads(self.key(context), keys)
        value = self._split_heads(self.value(context), keys)
        if attention_mask is not None and attention_mask.bias is None:
            attention_mask = None
        dropout = self.dropout.p if self.training else 0.0

        attention_map = None
        if output_attentions or self._must_be_eager(query, key, attention_mask):
            attended, attention_map = attend_eagerly(
                query, key, value, attention_mask, dropout=dropout
            )
        else:
            attended = self._attend_fused(query, key, value, attention_mask, dropout)
        # [batch, queries, heads, head_dim] -> [batch, queries, hidden]
        attended = attended.flatten(2) if queries is None else queries.pack(attended.flatten(2))
        return attended, attention_map if output_attentions else None

    def _must_be_eager(self, query: Tensor, key: Tensor, mask: AttentionMask | None) -> bool:
        """Return whether to compute eagerly: as configured, for correctness or for speed."""
        implementation = self.config._attn_implementation
        if not is_traced(query) and 0 in (query.shape[2], key.shape[2]):
            return True  # fused implementations fail without regions
        if implementation == "sdpa" and query.requires_grad and query.device.type == "cpu":
            # On CPUs the fused kernel has no dropout, and its bfloat16 gradient takes twice as
            # long as the eager one. A trace must not depend on whether gradients are enabled.
            return not torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
        if implementation == "flex_attention" and query.device.type == "cpu":
            # On CPUs, flex attention has no gradient, and reading a tensor in its score function
            # corrupts the heap (seen with torch 2.15).
            return mask is not None or query.requires_grad
        return implementation in (None, "eager")

    def _split_heads(self, projected: Tensor, packing: Packing | None) -> Tensor:
        """Reshape `[batch, length, hidden]`, or packed, to `[batch, heads, length, head_dim]`."""
        if packing is not None:
            projected = packing.unpack(projected)
        batch_size, length, _ = projected.shape
        heads = projected.view(
            batch_size, length, self.num_attention_heads, self.attention_head_size
        )
        return heads.transpose(1, 2)

    def _attend_fused(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: AttentionMask | None,
        dropout: float,
    ) -> Tensor:
        """Attend with the implementation named by the configuration."""
        implementation = str(self.config._attn_implementation)
        if mask is not None and not _supports_mask(implementation, mask):
            implementation = "sdpa"
        if dropout and implementation == "flex_attention":
            implementation = "sdpa"  # flex attention has no dropout
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, attend_eagerly)
        bias = None if mask is None else mask.bias
        if bias is not None and implementation == "flex_attention":
            # Flex attention reads single entries and does not broadcast.
            bias = bias.expand(-1, -1, query.shape[2], -1)
        attended: Tensor
        attended, _ = attend(self, query, key, value, bias, dropout=dropout, scaling=self.scaling)
        if mask is not None and mask.has_key is not None:
            # [batch, heads, queries, 1] -> [batch, queries, heads, 1]
            attended = attended * mask.has_key.transpose(1, 2)
        return attended


def _supports_mask(implementation: str, mask: AttentionMask) -> bool:
    """Return whether an implementation of transformers supports a mask."""
    if implementation == "flex_attention":
        # It uses the mask of the first head for all heads.
        return mask.bias is None or mask.bias.shape[1] == 1
    # Flash attention has no mask per query, and unpads queries by the mask of the keys, which is
    # wrong for cross-attention.
    return "flash" not in implementation


class ResidualOutput(nn.Module):
    """Output projection of a block, with residual and layer norm."""

    def __init__(self, width: int, config: LxmertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
        """Project `[batch, length, width]` and add the input `[batch, length, hidden]`."""
        hidden_states = self.dropout(self.dense(hidden_states))
        joined: Tensor = self.LayerNorm(hidden_states + input_tensor)
        return joined


class LxmertAttentionOutput(ResidualOutput):
    """Output projection of attention."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__(config.hidden_size, config)


class LxmertSelfAttentionLayer(nn.Module):
    """Attention of a sequence over itself, with residual and layer norm."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.self = LxmertAttention(config)
        self.output = LxmertAttentionOutput(config)

    def forward(
        self,
        input_tensor: Tensor,
        attention_mask: AttentionMask | Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return `[batch, length, hidden]` and the map, as in `LxmertAttention`."""
        attended, attention_map = self.self(
            input_tensor, input_tensor, attention_mask, output_attentions
        )
        return self.output(attended, input_tensor), attention_map


class LxmertCrossAttentionLayer(nn.Module):
    """Attention of one stream over the other, with residual and layer norm."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.att = LxmertAttention(config)
        self.output = LxmertAttentionOutput(config)

    def forward(
        self,
        input_tensor: Tensor,
        ctx_tensor: Tensor,
        ctx_att_mask: AttentionMask | Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return `[batch, queries, hidden]` and the map, as in `LxmertAttention`."""
        attended, attention_map = self.att(
            input_tensor, ctx_tensor, ctx_att_mask, output_attentions
        )
        return self.output(attended, input_tensor), attention_map
