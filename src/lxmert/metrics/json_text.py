"""Walks through a JSON file of any size, of which one piece at a time is in memory."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

BYTE_ORDER_MARK = "\ufeff"
"""What editors on Windows put first."""

_CHUNK = 1 << 20
_DECODER = json.JSONDecoder()
_AFTER = tuple(" \t\r\n,]}")
"""What may follow a value."""

_BLANK = re.compile(r"[ \t\r\n]*")


class JsonText:
    """A place in a JSON file; what is behind it is forgotten."""

    def __init__(self, path: Path) -> None:
        check_file(path)
        self.path = path
        self._stream = path.open(encoding="utf-8", newline="")
        self._text = ""
        self._place = 0
        self._bytes_before = 0
        if self._next() == BYTE_ORDER_MARK:
            self._place += 1

    def __enter__(self) -> "JsonText":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def members(self) -> Iterator[str]:
        """Yield the keys of an object; the caller takes each value before the next key."""
        self._take("{")
        if self._next() == "}":
            self._take("}")
            return
        while True:
            key = self.value()
            if not isinstance(key, str):
                raise self._error("a key in quotes is expected", self._place)
            self._take(":")
            yield key
            if self._take(",}") == "}":
                return

    def elements(self) -> Iterator[object]:
        """Yield the values of a list."""
        self._take("[")
        if self._next() == "]":
            self._take("]")
            return
        while True:
            yield self.value()
            if self._take(",]") == "]":
                return

    def value(self) -> object:
        """Take a whole value."""
        self._next()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._place)
            except json.JSONDecodeError as error:
                if self._fill():
                    continue
                raise self._error(error.msg, error.pos) from error
            except RecursionError as error:
                raise self._error("the lists in lists are too deep", self._place) from error
            # A number may be cut where the piece ends, as in 12|3 and 12.|5.
            whole = isinstance(value, dict | list | str) or self._text[end : end + 1] in _AFTER
            if whole or not self._fill():
                self._place = end
                return value

    def skip(self) -> None:
        """Pass over a value; of a long list or object, one entry at a time is in memory."""
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
        """Check that nothing follows."""
        if self._next():
            raise self._error("the end of the file is expected", self._place)

    def _take(self, signs: str) -> str:
        """Take one of the signs."""
        sign = self._next()
        if not sign or sign not in signs:
            raise self._error(f"{' or '.join(map(repr, signs))} is expected", self._place)
        self._place += 1
        return sign

    def _next(self) -> str:
        """Go to the next sign that is not blank and return it; empty at the end of the file."""
        while True:
            blank = _BLANK.match(self._text, self._place)
            assert blank is not None
            self._place = blank.end()
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._fill():
                return ""

    def _fill(self) -> bool:
        """Read on; the piece doubles while one value does not fit into it."""
        try:
            more = self._stream.read(max(_CHUNK, len(self._text) - self._place))
        except UnicodeDecodeError as error:
            raise self._error("it is no UTF-8 text from there on", len(self._text)) from error
        if not more:
            return False
        self._bytes_before += len(self._text[: self._place].encode())
        self._text = self._text[self._place :] + more
        self._place = 0
        return True

    def _error(self, reason: str, place: int) -> ValueError:
        byte = self._bytes_before + len(self._text[:place].encode())
        return ValueError(
            f"{self.path} is cut short or damaged at byte {byte} of "
            f"{self.path.stat().st_size}: {reason}; fetch or write it again"
        )


def check_file(path: Path) -> None:
    """Raise `FileNotFoundError` where there is no file."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: the official file is needed; check its path")
