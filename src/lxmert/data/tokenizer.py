"""The text side's tokenizer: BERT's, with a word list built from the texts at hand if need be."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from transformers import BertTokenizer

from lxmert.schema import IntArray

LxmertTokenizer = BertTokenizer
"""The documented name; since transformers 5 the slow and the fast tokenizer are one class."""

LxmertTokenizerFast = BertTokenizer

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")
"""What a folder keeps a tokenizer in, either of them, the richer first."""

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Encoded(NamedTuple):
    """A text as the model reads it.

    Attributes:
        token_ids: `[length]`, from `[CLS]` to `[SEP]`.
        spans: of each token, where it begins and ends in the text; `(0, 0)` for these two.
        unknown: words, as they were typed, that became `[UNK]`.
        kept: the part of the text that is read.
        lost: the rest, which did not fit.
    """

    token_ids: IntArray
    spans: list[tuple[int, int]]
    unknown: list[str]
    kept: str
    lost: str


def build_tokenizer(texts: Iterable[str], *, min_count: int = 1) -> BertTokenizer:
    """Make a lower-case tokenizer of whole words; a word seen less often becomes `[UNK]`.

    Words are kept whole so that a word which the model has never read is known as such.
    """
    backend = BertTokenizer(vocab=_number(()), do_lower_case=True).backend_tokenizer
    counts: Counter[str] = Counter()
    for text in texts:
        pieces = backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text))
        counts.update(piece for piece, _ in pieces)
    words = sorted(word for word, count in counts.items() if count >= min_count)
    return BertTokenizer(vocab=_number(words), do_lower_case=True)


def encode(tokenizer: BertTokenizer, text: str, *, longest: int) -> Encoded:
    """Tokenise a text, and tell what the model cannot read of it.

    Args:
        tokenizer: any BERT tokenizer.
        text: one sentence.
        longest: number of tokens at most, `[CLS]` and `[SEP]` included.
    """
    encoding = tokenizer(text, return_offsets_mapping=True, verbose=False)
    token_ids, spans = encoding["input_ids"], encoding["offset_mapping"]
    unknown = [
        text[start:end]
        for token_id, (start, end) in zip(token_ids, spans, strict=True)
        if token_id == tokenizer.unk_token_id
    ]
    end = len(text) if len(token_ids) <= longest else spans[longest - 2][1]
    read = [*spans[: longest - 1], spans[-1]] if len(spans) > longest else list(spans)
    return Encoded(cut(token_ids, longest), read, unknown, text[:end], text[end:])


def cut(token_ids: Sequence[int], longest: int) -> IntArray:
    """Cut a tokenised text to the longest length, its final `[SEP]` kept."""
    if len(token_ids) > longest:
        token_ids = [*token_ids[: longest - 1], token_ids[-1]]
    return np.asarray(token_ids, dtype=np.int64)


def _number(words: Iterable[str]) -> dict[str, int]:
    return {token: index for index, token in enumerate([*SPECIAL_TOKENS, *words])}
