"""The tokenizer: BERT's, optionally with a vocabulary built from given texts."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from transformers import BertTokenizer

from lxmert.files import read_json_object

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")
"""Tokenizer files in a folder, in order of preference."""

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_PADDED_TO = (1, 8, 16, 32, 64, 128)
"""Libraries pad the rows of an embedding to multiples of these numbers."""

_REMEDY = "copy it from where the model was trained"


class LxmertTokenizer(BertTokenizer):
    """BERT's tokenizer under the documented name."""

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[Any], *args: Any, **options: Any
    ) -> Self:
        """Load a tokenizer as transformers does, which makes an empty one without its files.

        Raises:
            ValueError: if it has no words.
        """
        tokenizer: Self = super().from_pretrained(pretrained_model_name_or_path, *args, **options)
        if _is_empty(tokenizer):
            raise ValueError(
                f"{pretrained_model_name_or_path} has no tokenizer, or one without any word: "
                f"{_REMEDY}"
            )
        return tokenizer


LxmertTokenizerFast = LxmertTokenizer
"""Since transformers 5, slow and fast tokenizers are the same class."""


def build_tokenizer(texts: Iterable[str]) -> BertTokenizer:
    """Build a lower-case tokenizer of complete words; other words become `[UNK]`.

    Words are not split, so that words unknown to the model can be detected.
    """
    counts = count_words(texts, BertTokenizer(vocab=_number(()), do_lower_case=True))
    return BertTokenizer(vocab=_number(sorted(counts)), do_lower_case=True)


def add_words(tokenizer: BertTokenizer, texts: Iterable[str]) -> BertTokenizer:
    """Return a tokenizer with the words of texts that another one does not know, as last ids."""
    known = tokenizer.get_vocab()
    new = sorted(word for word in count_words(texts, tokenizer) if word not in known)
    vocabulary = known | {word: len(known) + index for index, word in enumerate(new)}
    return BertTokenizer(vocab=vocabulary, do_lower_case=True)


def count_words(texts: Iterable[str], tokenizer: BertTokenizer) -> Counter[str]:
    """Count the words and punctuation marks of texts, normalized as a tokenizer does."""
    backend = tokenizer.backend_tokenizer
    counts: Counter[str] = Counter()
    for text in texts:
        pieces = backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text))
        counts.update(piece for piece, _ in pieces)
    return counts


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
    if _is_empty(tokenizer):
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


def _is_empty(tokenizer: BertTokenizer) -> bool:
    return bool(tokenizer.get_vocab().keys() <= set(SPECIAL_TOKENS))


def _number(words: Iterable[str]) -> dict[str, int]:
    return {token: index for index, token in enumerate([*SPECIAL_TOKENS, *words])}
