"""Attention in every form that LXMERT uses: masks, one attention block, its residual output.

Shapes: batch B, heads H, queries Q, keys K, head width D; hidden = H * D.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.import_utils import is_tracing

from lxmert.model.configuration import LxmertConfig
from lxmert.model.packing import Packing, find_packing


class AttentionMask(NamedTuple):
    """Which keys each query may read, in the form that attention adds to its scores.

    Attributes:
        bias: `[batch, 1 or heads, 1 or queries, keys]`, 0 for a readable key, else hugely negative;
            None if all may be read.
        has_key: `[batch, 1 or heads, 1 or queries, 1]`, 1 where a query may read any key at all,
            else 0; None if every query may.
        queries: how the queries are packed; None if they are padded.
        keys: how the keys are packed; None if they are padded.
    """

    bias: Tensor | None
    has_key: Tensor | None
    queries: Packing | None = None
    keys: Packing | None = None


class StreamMask(NamedTuple):
    """Which positions of one stream may be read, from within the stream and from the other one.

    Attributes:
        within: for the queries of the stream itself; None means all may be read.
        across: for the queries of the other stream, by which this one is read.
        packing: how the stream is packed; None if it is padded.
    """

    within: AttentionMask | Tensor | None
    across: AttentionMask | Tensor | None
    packing: Packing | None = None

    def pack(self, padded: Tensor) -> Tensor:
        """Leave the padding of `[batch, length, width]` out, if the stream is packed."""
        return padded if self.packing is None else self.packing.pack(padded)

    def read_by(self, other: "StreamMask") -> AttentionMask | Tensor | None:
        """Return `across` for the queries of another stream, packed as that one is."""
        if other.packing is None:
            return self.across
        mask = self.across
        if not isinstance(mask, AttentionMask):
            mask = AttentionMask(mask, None)
        return mask._replace(queries=other.packing)


def attention_dtype(hidden_states: Tensor) -> torch.dtype:
    """Return the dtype in which attention on `hidden_states` computes its scores."""
    device_type = hidden_states.device.type
    # A model without memory, on the meta device, knows no autocast.
    if device_type != "meta" and torch.is_autocast_enabled(device_type):
        return torch.get_autocast_dtype(device_type)
    return hidden_states.dtype


def additive_mask(readable: Tensor, dtype: torch.dtype) -> AttentionMask | None:
    """Turn a boolean mask into the form that attention needs.

    On a CPU, where looking costs nothing, a mask that hides no key becomes no mask at all.

    Args:
        readable: boolean `[batch, 1 or heads, 1 or queries, keys]`, True where a key may be read.
        dtype: that of the attention scores.

    Returns:
        The mask, or None where it would change nothing.
    """
    may_look = readable.device.type == "cpu" and not is_tracing(readable)
    if may_look and bool(readable.all()):
        return None
    # Half of the smallest number: with a score added it stays finite, so that a query without any
    # key gets a uniform map, which `has_key` then clears, and never 0 / 0.
    bias = torch.zeros(readable.shape, dtype=dtype, device=readable.device)
    bias = bias.masked_fill_(~readable, torch.finfo(dtype).min / 2)
    has_key = readable.any(dim=-1, keepdim=True)
    if may_look and bool(has_key.all()):
        return AttentionMask(bias, None)
    return AttentionMask(bias, has_key.to(dtype))


def stream_mask(given: Tensor | None, hidden_states: Tensor, *, pack: bool = False) -> StreamMask:
    """Prepare the mask of one stream for all of its readers.

    Args:
        given: `[batch, length]`, `[batch, 1 or length, length]` or
            `[batch, 1 or heads, 1 or length, length]`, 1 where a position may be read; None means
            everywhere. A position that none of its own stream may read is hidden from the other.
        hidden_states: `[batch, length, hidden]`, the embedded stream.
        pack: whether the padding may be left out, where that pays.
    """
    if given is None:
        return StreamMask(None, None)
    dtype = attention_dtype(hidden_states)
    readable = given.to(device=hidden_states.device, dtype=torch.bool)
    if readable.dim() == 2:
        mask = additive_mask(readable[:, None, None, :], dtype)
        packing = find_packing(readable) if pack else None
        if packing is None or mask is None:
            return StreamMask(mask, mask)
        across = mask._replace(keys=packing)
        return StreamMask(across._replace(queries=packing), across, packing)
    if readable.dim() == 3:
        readable = readable[:, None]
    # [batch, heads, queries, keys] -> [batch, 1, 1, keys]
    read_by_any = readable.flatten(1, 2).any(dim=1)[:, None, None, :]
    return StreamMask(additive_mask(readable, dtype), additive_mask(read_by_any, dtype))


def as_stream_mask(mask: StreamMask | Tensor | None) -> StreamMask:
    """Use a mask that is not prepared by stream for both kinds of readers."""
    return mask if isinstance(mask, StreamMask) else StreamMask(mask, mask)


def rows_of_first_query(mask: AttentionMask | Tensor | None) -> AttentionMask | Tensor | None:
    """Cut a mask `[..., queries, keys]` down to what the first query may read."""
    if isinstance(mask, AttentionMask):
        bias = None if mask.bias is None else mask.bias[..., :1, :]
        has_key = None if mask.has_key is None else mask.has_key[..., :1, :]
        return AttentionMask(bias, has_key, queries=None, keys=mask.keys)
    return None if mask is None else mask[..., :1, :]


def attend_eagerly(
    query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask | None, *, dropout: float
) -> tuple[Tensor, Tensor]:
    """Compute attention step by step, so that its map can be returned and differentiated.

    Args:
        query: `[batch, heads, queries, head_dim]`.
        key: `[batch, heads, keys, head_dim]`.
        value: `[batch, heads, keys, head_dim]`.
        mask: which keys may be read; None means all.
        dropout: probability with which an entry of the map is left out of the result.

    Returns:
        The result, `[batch, queries, heads, head_dim]`, and the map before dropout,
        `[batch, heads, queries, keys]`: rows sum to 1, or to 0 where there is no key to read.
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

    # Without a mask, the fused implementations take a module for a decoder unless it says no.
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
        """Let each position of `hidden_states` read from `context`.

        Args:
            hidden_states: `[batch, queries, hidden]`, or packed `[tokens, hidden]`.
            context: `[batch, keys, hidden]`, or packed `[tokens, hidden]`.
            attention_mask: which keys may be read, and how either side is packed; a plain tensor
                is added to the scores as it is.
            output_attentions: whether the map is needed; a fused implementation has none to give,
                so this call then computes step by step.

        Returns:
            What was read, in the form of `hidden_states`, and the map before dropout,
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
        if output_attentions or self._must_be_eager(query, attention_mask):
            read, attention_map = attend_eagerly(query, key, value, attention_mask, dropout=dropout)
        else:
            read = self._attend_fused(query, key, value, attention_mask, dropout)
        # [batch, queries, heads, head_dim] -> [batch, queries, hidden]
        read = read.flatten(2) if queries is None else queries.pack(read.flatten(2))
        return read, attention_map if output_attentions else None

    def _must_be_eager(self, query: Tensor, mask: AttentionMask | None) -> bool:
        """Tell whether to compute step by step: as configured, as alone right, or as faster."""
        implementation = self.config._attn_implementation
        if implementation == "sdpa" and query.requires_grad and query.device.type == "cpu":
            # On CPUs the fused kernel knows no dropout, and its gradient in bfloat16 takes twice
            # as long as the steps. A trace is to be the same with and without gradients.
            return not torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
        if implementation == "flex_attention" and query.device.type == "cpu":
            # On CPUs, flex attention has no gradient, and where it reads a tensor in its score
            # function it corrupts the heap (seen with torch 2.15).
            return mask is not None or query.requires_grad
        return implementation in (None, "eager")

    def _split_heads(self, projected: Tensor, packing: Packing | None) -> Tensor:
        """Turn `[batch, length, hidden]`, or packed, into `[batch, heads, length, head_dim]`."""
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
        """Attend by the implementation that the configuration names."""
        implementation = str(self.config._attn_implementation)
        if mask is not None and not _can_read(implementation, mask):
            implementation = "sdpa"
        if dropout and implementation == "flex_attention":
            implementation = "sdpa"  # which knows dropout
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, attend_eagerly)
        bias = None if mask is None else mask.bias
        if bias is not None and implementation == "flex_attention":
            # Flex attention looks single entries up and does not broadcast.
            bias = bias.expand(-1, -1, query.shape[2], -1)
        read: Tensor
        read, _ = attend(self, query, key, value, bias, dropout=dropout, scaling=self.scaling)
        if mask is not None and mask.has_key is not None:
            # [batch, heads, queries, 1] -> [batch, queries, heads, 1]
            read = read * mask.has_key.transpose(1, 2)
        return read


def _can_read(implementation: str, mask: AttentionMask) -> bool:
    """Tell whether an implementation of transformers reads a mask right."""
    if implementation == "flex_attention":
        # It reads the mask of the first head for all of them.
        return mask.bias is None or mask.bias.shape[1] == 1
    # Flash attention takes no mask by query, and unpads queries by the mask of the keys, which is
    # wrong where text reads regions.
    return "flash" not in implementation


class LxmertAttentionOutput(nn.Module):
    """Project what attention read, add it to its input, normalise the sum."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
        """Join what was read to the input, both `[batch, length, hidden]`."""
        hidden_states = self.dropout(self.dense(hidden_states))
        joined: Tensor = self.LayerNorm(hidden_states + input_tensor)
        return joined


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
        """Return `[batch, length, hidden]` and the map, as `LxmertAttention` does."""
        read, attention_map = self.self(
            input_tensor, input_tensor, attention_mask, output_attentions
        )
        return self.output(read, input_tensor), attention_map


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
        """Return `[batch, queries, hidden]` and the map, as `LxmertAttention` does."""
        read, attention_map = self.att(input_tensor, ctx_tensor, ctx_att_mask, output_attentions)
        return self.output(read, input_tensor), attention_map
