"""The text side's tokenizer: BERT's, with a word list built from the texts at hand if need be."""

import re
from collections import Counter
from collections.abc import Iterable

from transformers import BertTokenizer

LxmertTokenizer = BertTokenizer
"""The documented name; since transformers 5 the slow and the fast tokenizer are one class."""

LxmertTokenizerFast = BertTokenizer

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_PIECES = re.compile(r"\w+|[^\w\s]")


def build_tokenizer(texts: Iterable[str], *, min_count: int = 1) -> BertTokenizer:
    """Make a lower-case tokenizer of whole words; a word seen less often becomes `[UNK]`.

    Words are kept whole so that a word which the model has never read is known as such.
    """
    counts = Counter(piece for text in texts for piece in _PIECES.findall(text.lower()))
    words = sorted(word for word, count in counts.items() if count >= min_count)
    vocabulary = {token: index for index, token in enumerate([*SPECIAL_TOKENS, *words])}
    return BertTokenizer(vocab=vocabulary, do_lower_case=True)


def unknown_words(tokenizer: BertTokenizer, text: str) -> list[str]:
    """Return the words of a text that the tokenizer can only read as `[UNK]`."""
    words = _PIECES.findall(text)
    return [word for word in words if tokenizer.unk_token in tokenizer.tokenize(word)]
