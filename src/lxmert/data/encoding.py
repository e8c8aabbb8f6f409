"""Encodes a text as the token ids that the model reads; needs no PyTorch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Union

import numpy as np
from tokenizers import Tokenizer

from lxmert.schema import IntArray

if TYPE_CHECKING:
    from transformers import BertTokenizer

TextTokenizer = Union[Tokenizer, "BertTokenizer"]
"""A BERT tokenizer: its backend, or transformers' class around it."""

UNKNOWN, PADDING = "[UNK]", "[PAD]"
"""BERT's tokens for an unknown word and for padding."""


class Encoded(NamedTuple):
    """A text as the model reads it.

    Attributes:
        token_ids: `[length]`, from `[CLS]` to `[SEP]`.
        spans: start and end of each token in the text; `(0, 0)` for `[CLS]` and `[SEP]`.
        unknown: words, as typed, that became `[UNK]`.
        kept: the part of the text that is read.
        lost: the rest, which was truncated.
    """

    token_ids: IntArray
    spans: list[tuple[int, int]]
    unknown: list[str]
    kept: str
    lost: str


def backend_of(tokenizer: TextTokenizer) -> Tokenizer:
    """Return the backend of a tokenizer, which neither truncates nor pads."""
    inner = tokenizer if isinstance(tokenizer, Tokenizer) else tokenizer.backend_tokenizer
    backend: Tokenizer = inner
    backend.no_truncation()
    backend.no_padding()
    return backend


def padding_id(tokenizer: TextTokenizer) -> int:
    """Return the id of the padding token.

    Raises:
        ValueError: if the tokenizer has none.
    """
    found = backend_of(tokenizer).token_to_id(PADDING)
    if found is None:
        raise ValueError(f"the tokenizer has no {PADDING}: use a BERT tokenizer")
    return found


def encode(tokenizer: TextTokenizer, text: str, *, longest: int) -> Encoded:
    """Tokenize a text, and return what the model cannot read of it.

    Args:
        tokenizer: any BERT tokenizer.
        text: one sentence.
        longest: maximum number of tokens, including `[CLS]` and `[SEP]`.
    """
    backend = backend_of(tokenizer)
    encoding = backend.encode(text)
    token_ids, spans = encoding.ids, encoding.offsets
    unknown_id = backend.token_to_id(UNKNOWN)
    unknown = [
        text[start:end]
        for token_id, (start, end) in zip(token_ids, spans, strict=True)
        if token_id == unknown_id
    ]
    end = len(text) if len(token_ids) <= longest else spans[longest - 2][1]
    read = [*spans[: longest - 1], spans[-1]] if len(spans) > longest else list(spans)
    return Encoded(cut(token_ids, longest), read, unknown, text[:end], text[end:])


def cut(token_ids: Sequence[int], longest: int) -> IntArray:
    """Truncate token ids to the maximum length, keeping the final `[SEP]`."""
    if len(token_ids) > longest:
        token_ids = [*token_ids[: longest - 1], token_ids[-1]]
    return np.asarray(token_ids, dtype=np.int64)
