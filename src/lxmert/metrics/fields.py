"""Typed access to the fields of JSON objects, with errors that name the field."""

from collections.abc import Mapping

from lxmert.files import shorten

Record = Mapping[str, object]


def text_field(record: Record, key: str) -> str:
    """Return a text field."""
    value = record.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{key!r} is {shorten(value)}, expected a text")
    return value


def int_field(record: Record, key: str) -> int:
    """Return an integer field."""
    value = record.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{key!r} is {shorten(value)}, expected an integer")
    return value


def number_field(record: Record, key: str) -> float:
    """Return a number field."""
    value = record.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{key!r} is {shorten(value)}, expected a number")
    return value


def record_field(record: Record, key: str) -> Record:
    """Return an object field."""
    value = record.get(key)
    if not isinstance(value, dict):
        raise ValueError(f"{key!r} is {shorten(value)}, expected an object")
    return value


def records_field(record: Record, key: str) -> list[Record]:
    """Return a field that is a list of objects."""
    value = record.get(key)
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError(f"{key!r} is {shorten(value)}, expected a list of objects")
    return value


def texts_field(record: Record, key: str) -> list[str]:
    """Return a field that is a list of texts."""
    value = record.get(key)
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ValueError(f"{key!r} is {shorten(value)}, expected a list of texts")
    return value
