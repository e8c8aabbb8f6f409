"""The text side's tokenizer: BERT's, with a word list built from the texts at hand if need be."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from transformers import BertTokenizer

from lxmert.files import read_json_object
from lxmert.schema import IntArray

LxmertTokenizer = BertTokenizer
"""The documented name; since transformers 5 the slow and the fast tokenizer are one class."""

LxmertTokenizerFast = BertTokenizer

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")
"""What a folder keeps a tokenizer in, either of them, the richer first."""

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_PADDED_TO = (1, 8, 16, 32, 64, 128)
"""Numbers to whose multiples libraries pad the rows of an embedding."""

_REMEDY = "copy it from where the model was trained"


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


def load_tokenizer(path: str | Path) -> BertTokenizer:
    """Load the tokenizer of a model folder, or a list of word pieces.

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
            "in a recipe set model.tokenizer to a folder or vocab.txt that has one"
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
    except Exception as error:  # the library has no type of its own for a damaged file
        raise ValueError(f"{source} is damaged ({error}): {_REMEDY}") from error
    assert isinstance(tokenizer, BertTokenizer)
    if tokenizer.get_vocab().keys() <= set(SPECIAL_TOKENS):
        raise ValueError(f"{source} is a tokenizer without any word: {_REMEDY}")
    return tokenizer


def check_words(tokenizer: BertTokenizer, rows: int, source: str | Path) -> None:
    """Refuse a tokenizer whose numbers mean other words to the model.

    Args:
        tokenizer: of the texts.
        rows: of the model's word embedding, which may be padded: to a multiple of up to 128.
        source: the model, for the message.

    Raises:
        ValueError: if the numbers do not fit.
    """
    words = len(tokenizer)
    if all(-(-words // multiple) * multiple != rows for multiple in _PADDED_TO):
        raise ValueError(
            f"the tokenizer has {words} words, but {source} has {rows}: take the one that it was "
            "trained with, in a recipe as model.tokenizer"
        )


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
