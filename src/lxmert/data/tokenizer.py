"""The tokenizer: BERT's, optionally with a vocabulary built from given texts."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from transformers import BertTokenizer

from lxmert.files import read_json_object
from lxmert.schema import IntArray

LxmertTokenizer = BertTokenizer
"""The documented name; since transformers 5, slow and fast tokenizers are the same class."""

LxmertTokenizerFast = BertTokenizer

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")
"""Tokenizer files in a folder, in order of preference."""

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_PADDED_TO = (1, 8, 16, 32, 64, 128)
"""Libraries pad the rows of an embedding to multiples of these numbers."""

_REMEDY = "copy it from where the model was trained"


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


def build_tokenizer(texts: Iterable[str], *, min_count: int = 1) -> BertTokenizer:
    """Build a lower-case tokenizer of complete words; rarer words become `[UNK]`.

    Words are not split, so that words unknown to the model can be detected.
    """
    backend = BertTokenizer(vocab=_number(()), do_lower_case=True).backend_tokenizer
    counts: Counter[str] = Counter()
    for text in texts:
        pieces = backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text))
        counts.update(piece for piece, _ in pieces)
    words = sorted(word for word, count in counts.items() if count >= min_count)
    return BertTokenizer(vocab=_number(words), do_lower_case=True)


def load_tokenizer(path: str | Path) -> BertTokenizer:
    """Load the tokenizer of a model folder, or a vocabulary file.

    Args:
        path: a folder with one of `TOKENIZER_FILES`, or a `vocab.txt`.

    Raises:
        FileNotFoundError: if the folder has none.
        ValueError: if it is damaged, or has no words.
    """
    path = Path(path)
    names = [name for name in TOKENIZER_FILES if (path / name).is_file()]
    if not names and not path.is_file():
        raise FileNotFoundError(
            f"{path} has neither {' nor '.join(TOKENIZER_FILES)}, so no tokenizer: {_REMEDY}, or "
            "set model.tokenizer in the recipe to a folder or vocab.txt that has one"
        )
    source = path / names[0] if names else path
    if source.suffix == ".json":
        read_json_object(source, remedy=_REMEDY)
    try:
        tokenizer = (
            BertTokenizer.from_pretrained(path)
            if names
            else BertTokenizer(vocab=str(path), do_lower_case=True)
        )
    except Exception as error:  # the library has no error type for damaged files
        raise ValueError(f"{source} is damaged ({error}): {_REMEDY}") from error
    assert isinstance(tokenizer, BertTokenizer)
    if tokenizer.get_vocab().keys() <= set(SPECIAL_TOKENS):
        raise ValueError(f"{source} is a tokenizer without any word: {_REMEDY}")
    return tokenizer


def check_words(tokenizer: BertTokenizer, rows: int, source: str | Path) -> None:
    """Raise `ValueError` if the vocabulary does not fit the model's word embedding.

    Args:
        tokenizer: tokenizer of the texts.
        rows: rows of the model's word embedding, which may be padded to a multiple of up to 128.
        source: the model, for the message.

    Raises:
        ValueError: if the numbers do not match.
    """
    words = len(tokenizer)
    if all(-(-words // multiple) * multiple != rows for multiple in _PADDED_TO):
        raise ValueError(
            f"the tokenizer has {words} words, but {source} has {rows}: use the tokenizer that it "
            "was trained with (model.tokenizer in a recipe)"
        )


def encode(tokenizer: BertTokenizer, text: str, *, longest: int) -> Encoded:
    """Tokenize a text, and return what the model cannot read of it.

    Args:
        tokenizer: any BERT tokenizer.
        text: one sentence.
        longest: maximum number of tokens, including `[CLS]` and `[SEP]`.
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
    """Truncate token ids to the maximum length, keeping the final `[SEP]`."""
    if len(token_ids) > longest:
        token_ids = [*token_ids[: longest - 1], token_ids[-1]]
    return np.asarray(token_ids, dtype=np.int64)


def _number(words: Iterable[str]) -> dict[str, int]:
    return {token: index for index, token in enumerate([*SPECIAL_TOKENS, *words])}
