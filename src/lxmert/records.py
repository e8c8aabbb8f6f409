"""Typed records and their files: types and ranges are checked at once, every error is named.

It knows nothing of what the records are about.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import ErrorDetails

from lxmert.files import read_json_object, shorten
from lxmert.names import did_you_mean

MAX_RECORD_BYTES = 16 << 20
"""Size up to which the file of a record is read; one that lists 1600 classes has 0.1 MB."""

_MOST_NAMED = 20
"""Errors that one message names."""

LATER = object()
"""Annotation of a field that `to_dict` leaves out while it has its default.

A setting that did not exist when an extractor was trained must not change its fingerprint.
"""

T = TypeVar("T")


def _keep(value: object, check: ValidatorFunctionWrapHandler) -> object:
    """Return a checked number as it was given: 1 and 1.0 differ in a file and its fingerprint."""
    check(value)
    return value


KEEP = WrapValidator(_keep)

Items = Annotated[tuple[T, ...], Field(strict=False, fail_fast=True)]
"""A tuple, in files and arguments also a list; only its first wrong item is named."""

Number = Annotated[float, KEEP]
Positive = Annotated[float, Field(gt=0, le=1e6), KEEP]
NonNegative = Annotated[float, Field(ge=0, le=1e6), KEEP]
Share = Annotated[float, Field(ge=0, le=1), KEEP]
Count = Annotated[int, Field(ge=1, le=100_000)]
Probability = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Fault(NamedTuple):
    """One error of a record: its key with the text before and after it."""

    before: str
    key: str
    after: str

    def inside(self, key: str) -> "Fault":
        """Return the same error of a record that is the field `key` of another record."""
        after = self.after if self.key else f": {self.after}"
        return self._replace(key=f"{key}.{self.key}".removesuffix("."), after=after)


class RecordError(ValueError):
    """All errors of a record."""

    def __init__(self, problems: list[Fault]) -> None:
        """Join the messages of the first errors."""
        self.problems = problems
        more = len(problems) - _MOST_NAMED
        texts = ["".join(problem) for problem in problems[:_MOST_NAMED]]
        super().__init__("; ".join(texts + ([f"and {more} more"] if more > 0 else [])))


class Record(BaseModel):
    """Base class of typed records: immutable, strict about types, without unknown keys.

    Subclasses declare fields with types and ranges, and `problems` for what relates several.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    remedy: ClassVar[str] = "correct it, or copy it again from where it was made"
    """What to do about a file that is wrong, for messages."""

    def __init__(self, **values: Any) -> None:
        """Check all values.

        Raises:
            ValueError: one sentence that names every wrong, missing and unknown key.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise RecordError(_problems(error, list(type(self).model_fields))) from error

    def problems(self) -> Iterator[str]:
        """Yield what is wrong between fields, each of which is right by itself."""
        yield from ()

    @model_validator(mode="after")
    def _check_relations(self) -> Self:
        if problems := list(self.problems()):
            raise ValueError("; ".join(problems))
        return self

    def replace(self, **changes: Any) -> Self:
        """Return a checked copy with other values of some fields."""
        return type(self)(**{**dict(self), **changes})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, in the order of their declaration."""
        fields = type(self).model_fields
        return {
            name: _plain(value)
            for name, value in self
            if not (LATER in fields[name].metadata and value == fields[name].default)
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a record from JSON values.

        Raises:
            ValueError: as for the class.
        """
        return cls(**values)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a record from a JSON file.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: naming the file and everything that is wrong with it.
        """
        values = read_json_object(path, remedy=cls.remedy, limit=MAX_RECORD_BYTES)
        try:
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}: {cls.remedy}") from error


def _plain(value: object) -> object:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def _problems(error: ValidationError, known: list[str]) -> list[Fault]:
    details = error.errors(include_url=False)
    places = [entry["loc"] for entry in details]
    # Of a list with a wrong item pydantic also says that it has too few items.
    inner = {place[:-1] for place in places if place} - {()}
    return [
        problem
        for entry in details
        if entry["loc"] not in inner
        for problem in _problem(entry, known)
    ]


def _problem(details: ErrorDetails, known: list[str]) -> list[Fault]:
    key = _path(details["loc"])
    kind = details["type"]
    if kind == "missing":
        return [Fault("", key, " is missing")]
    if kind == "extra_forbidden":
        hint = did_you_mean(key, known) if len(details["loc"]) == 1 else ""
        return [Fault("unknown key '", key, f"' ({hint})" if hint else "'")]
    if kind == "value_error":
        cause = details["ctx"]["error"]
        if isinstance(cause, RecordError):
            return [problem.inside(key) for problem in cause.problems]
        return [Fault("", key, f": {cause}" if key else str(cause))]
    return [Fault("", key, f": got {shorten(details['input'])}, expected {_expected(details)}")]


def _path(location: tuple[int | str, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return repr("".join(parts).removeprefix("."))[1:-1][:80]


_WORDS = {
    "tuple_type": "a list",
    "dict_type": "an object",
    "mapping_type": "an object",
    "model_type": "an object",
    "string_type": "a text in quotation marks",
    "path_type": "a path in quotation marks",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
}
"""Type of an error -> what was expected, in the words of JSON."""


def _expected(details: ErrorDetails) -> str:
    """Turn pydantic's "Input should be greater than or equal to 1" into "at least 1"."""
    if details["type"] in _WORDS:
        return _WORDS[details["type"]]
    text = re.sub(r"^\w+ should (be |have )?", "", details["msg"])
    text = re.sub(r" after validation, not \d+$", "", text)
    text = text.replace("greater than or equal to", "at least").replace("greater than", "above")
    return text.replace("less than or equal to", "at most").replace("less than", "below")
