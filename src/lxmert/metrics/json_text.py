"""Streaming JSON reader that keeps only the current value in memory."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from lxmert.files import bounded_decoder

BYTE_ORDER_MARK = "\ufeff"
"""First character of files saved by some editors on Windows."""

_CHUNK = 1 << 20
_DECODER = bounded_decoder()
_AFTER = tuple(" \t\r\n,]}")
"""Characters that may follow a value."""

_BLANK = re.compile(r"[ \t\r\n]*")

_KINDS = {
    "{": "an object",
    "[": "a list",
    '"': "a text",
    **dict.fromkeys("tf", "true or false"),
    "n": "null",
    **dict.fromkeys("-0123456789", "a number"),
}
"""Type of a value by its first character."""

_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "ZIP", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
"""Compression formats by the first bytes of their files."""


class JsonText:
    """A position in a JSON file; the text before it is not kept."""

    def __init__(self, path: Path) -> None:
        check_file(path)
        self.path = path
        self._stream = path.open(encoding="utf-8", newline="")
        self._text = ""
        self._place = 0
        self._bytes_before = 0
        if self._next() == BYTE_ORDER_MARK:
            self._place += 1
        if not self._next():
            self._stream.close()
            raise ValueError(f"{path} is empty, expected JSON: fetch or write it again")

    def __enter__(self) -> "JsonText":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def begins_list(self) -> bool:
        """Return whether the next value is a list."""
        return self._next() == "["

    def members(self) -> Iterator[str]:
        """Yield the keys of an object; the caller reads each value before the next key."""
        self._enter("{")
        if self._next() == "}":
            self._take("}")
            return
        while True:
            key = self.value()
            if not isinstance(key, str):
                raise self._error("expected a key in quotes", self._place)
            self._take(":")
            yield key
            if self._take(",}") == "}":
                return

    def take_keys(self) -> list[str]:
        """Read an object and return its keys."""
        found = []
        for name in self.members():
            self.skip()
            found.append(name)
        return found

    def elements(self) -> Iterator[object]:
        """Yield the values of a list."""
        self._enter("[")
        if self._next() == "]":
            self._take("]")
            return
        while True:
            yield self.value()
            if self._take(",]") == "]":
                return

    def value(self) -> object:
        """Read one value."""
        self._next()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._place)
            except json.JSONDecodeError as error:
                if self._fill():
                    continue
                raise self._error(error.msg, error.pos) from error
            except RecursionError as error:
                raise self._error("nested too deep", self._place) from error
            except ValueError as error:
                raise ValueError(
                    f"{self.path} has {error} in the value at byte {self._byte(self._place)}: "
                    "fetch or write it again"
                ) from error
            # A number may be split at the end of a chunk, as in 12|3 and 12.|5.
            whole = isinstance(value, dict | list | str) or self._text[end : end + 1] in _AFTER
            if whole or not self._fill():
                self._place = end
                return value

    def skip(self) -> None:
        """Skip a value; of a long list or object, only one entry at a time is in memory."""
        opening = self._next()
        if opening == "[":
            for _ in self.elements():
                pass
        elif opening == "{":
            for _ in self.members():
                self.value()
        else:
            self.value()

    def end(self) -> None:
        """Check that the file ends here."""
        if self._next():
            raise self._error("expected the end of the file", self._place)

    def _enter(self, sign: str) -> None:
        """Read the opening character of a list or an object."""
        found = self._next()
        if found in _KINDS and found != sign:
            raise ValueError(
                f"{self.path} has {_KINDS[found]} at byte {self._byte(self._place)}, expected "
                f"{_KINDS[sign]}: check whether files were swapped"
            )
        self._take(sign)

    def _take(self, signs: str) -> str:
        """Read one of the expected characters."""
        sign = self._next()
        if not sign or sign not in signs:
            raise self._error(f"expected {' or '.join(map(repr, signs))}", self._place)
        self._place += 1
        return sign

    def _next(self) -> str:
        """Skip whitespace and return the next character; empty at the end of the file."""
        while True:
            blank = _BLANK.match(self._text, self._place)
            assert blank is not None
            self._place = blank.end()
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._fill():
                return ""

    def _fill(self) -> bool:
        """Read the next chunk; its size doubles while one value does not fit."""
        try:
            more = self._stream.read(max(_CHUNK, len(self._text) - self._place))
        except UnicodeDecodeError as error:
            raise self._error("not UTF-8 text from this point", len(self._text)) from error
        if not more:
            return False
        self._bytes_before += len(self._text[: self._place].encode())
        self._text = self._text[self._place :] + more
        self._place = 0
        return True

    def _error(self, reason: str, place: int) -> ValueError:
        return ValueError(
            f"{self.path} is truncated or damaged at byte {self._byte(place)} of "
            f"{self.path.stat().st_size}: {reason}; fetch or write it again"
        )

    def _byte(self, place: int) -> int:
        return self._bytes_before + len(self._text[:place].encode())


def check_file(path: Path) -> None:
    """Check that a path is an uncompressed text file.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is a folder, compressed, or UTF-16 text.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected a file: name a file in it")
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}, expected an official file: check the path")
    with path.open("rb") as file:
        first = file.read(6)
    for sign, program in _PACKED.items():
        if first.startswith(sign):
            raise ValueError(
                f"{path} is compressed with {program}, expected plain text: unpack it first"
            )
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path} is UTF-16 text, expected UTF-8: save it as UTF-8")
