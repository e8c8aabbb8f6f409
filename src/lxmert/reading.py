"""Reads questions and captions for a model, with warnings about unusual input; needs no PyTorch."""

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from lxmert.data.arrays import Arrays, text_arrays
from lxmert.data.encoding import Encoded, TextTokenizer, backend_of, encode, padding_id
from lxmert.files import shorten
from lxmert.names import count
from lxmert.schema import IntArray, Regions

CONFIDENT = 0.5
"""Object score from which a region counts as recognized."""

_MANY_NAMES = 200
"""Vocabulary size up to which warnings about unknown words list examples."""

_HANDFUL = 5


class Recognizer(Protocol):
    """What is needed of a region extractor to judge its regions."""

    @property
    def recognizes(self) -> bool:
        """Whether regions are named objects."""
        ...

    @property
    def object_names(self) -> tuple[str, ...]:
        """Name of each object class."""
        ...


class InputWarning(UserWarning):
    """The input is unlike the training data, so that the answer may be unreliable."""


def check_text(text: object) -> None:
    """Check that a value is a non-empty text.

    Raises:
        TypeError: if it is not a string.
        ValueError: if it is empty or has an unpaired surrogate.
    """
    if not isinstance(text, str):
        raise TypeError(f"the text is {text!r}: write a question, such as 'What is this?'")
    if not text.strip():
        raise ValueError("the text is empty: write a question, such as 'What is this?'")
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        raise ValueError(f"the text {text!r} is not valid Unicode: pass it as UTF-8")


class TextReader:
    """Tokenizes texts for a model; warns about unknown words and truncation."""

    def __init__(self, tokenizer: TextTokenizer, *, longest: int) -> None:
        """Combine a tokenizer with the maximum number of tokens of the model."""
        self.backend = backend_of(tokenizer)
        self.longest = longest

    def __call__(self, texts: Sequence[str]) -> Arrays:
        """Return the text inputs of the model; see `text_arrays`.

        Warns:
            InputWarning: if a text is truncated or has unknown words.

        Raises:
            TypeError: if a text is no string.
            ValueError: if it is empty or not valid Unicode.
        """
        token_ids = [self.tokenize(text) for text in texts]
        return text_arrays(token_ids, pad_id=padding_id(self.backend))

    def read(self, text: str, max_length: int | None = None) -> Encoded:
        """Tokenize one text, and report which part of it the model reads."""
        return encode(self.backend, text, longest=max_length or self.longest)

    def tokenize(
        self, text: str, max_length: int | None = None, *, truncation: bool = True
    ) -> IntArray:
        """Tokenize one text; errors and warnings are those of a call.

        Args:
            text: the text.
            max_length: maximum number of tokens; None: that of the model.
            truncation: whether a longer text is truncated; otherwise it is an error.
        """
        check_text(text)
        encoded = self.read(text, max_length)
        if encoded.lost and not truncation:
            raise ValueError(
                f"the text {shorten(text)} is longer than {max_length} tokens: shorten it, or use "
                "truncation=True"
            )
        for warning in self.text_warnings(encoded):
            _warn(warning)
        return encoded.token_ids

    def text_warnings(self, encoded: Encoded) -> list[str]:
        """Return warnings about unknown words and truncation in a text that `read` returned."""
        warnings = [self._unknown_message(encoded.unknown)] if encoded.unknown else []
        if encoded.lost:
            lost = sum(any(map(str.isalnum, word)) for word in encoded.lost.split())
            warnings.append(
                f"the text is longer than the model reads: {count(lost, 'word')} at its end cut, "
                f"leaving '{encoded.kept}'"
            )
        return warnings

    def _unknown_message(self, unknown: Sequence[str]) -> str:
        """Return a warning that names the unknown words, and some known ones."""
        vocabulary = self.backend.get_vocab()
        known = sorted(word for word in vocabulary if word.isalpha() and len(word) > 2)
        words = _name_some([repr(word) for word in unknown])
        message = f"the model does not know {words}, so the answer is unreliable"
        if len(known) <= _MANY_NAMES:
            some = known[:: max(1, len(known) // _HANDFUL)][:_HANDFUL]
            message += f"; it knows {len(known)} words, such as {', '.join(map(repr, some))}"
        return message


def check_recognized(extractor: Recognizer, regions: Regions) -> None:
    """Warn if no object in the image is recognized with confidence."""
    for warning in image_warnings(extractor, regions):
        _warn(warning)


def image_warnings(extractor: Recognizer, regions: Regions) -> list[str]:
    """Return a warning if no object in the image is recognized with confidence."""
    if not extractor.recognizes:
        return []
    if regions.found and regions.object_scores.max() >= CONFIDENT:
        return []
    names = extractor.object_names
    return [
        "nothing in this image was recognized with confidence, so the answer is unreliable: "
        f"the region extractor knows {_name_some(names)}"
    ]


def _name_some(names: Sequence[str]) -> str:
    """List the first names, and count the others."""
    listed = ", ".join(names[:_HANDFUL])
    return listed if len(names) <= _HANDFUL else f"{listed} and {len(names) - _HANDFUL} more"


def _warn(message: str) -> None:
    """Warn about an input, at the calling line outside this package and torch."""
    torch = sys.modules.get("torch")
    files = (__file__,) if torch is None else (__file__, str(torch.__file__))
    inside = tuple(f"{Path(file).parent}{os.sep}" for file in files)
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(inside):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, InputWarning, stacklevel=level)
