"""Takes fields out of records of a file, and refuses those of the wrong type."""

from collections.abc import Mapping

from lxmert.files import shorten

Record = Mapping[str, object]


def text_field(record: Record, key: str) -> str:
    """Return a field that must be a text."""
    value = record.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{key!r} must be a text, got {shorten(value)}")
    return value


def int_field(record: Record, key: str) -> int:
    """Return a field that must be a whole number."""
    value = record.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{key!r} must be a whole number, got {shorten(value)}")
    return value


def number_field(record: Record, key: str) -> float:
    """Return a field that must be a number."""
    value = record.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{key!r} must be a number, got {shorten(value)}")
    return value


def record_field(record: Record, key: str) -> Record:
    """Return a field that must be an object."""
    value = record.get(key)
    if not isinstance(value, dict):
        raise ValueError(f"{key!r} must be an object, got {shorten(value)}")
    return value


def records_field(record: Record, key: str) -> list[Record]:
    """Return a field that must be a list of objects."""
    value = record.get(key)
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError(f"{key!r} must be a list of objects, got {shorten(value)}")
    return value


def texts_field(record: Record, key: str) -> list[str]:
    """Return a field that must be a list of texts."""
    value = record.get(key)
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ValueError(f"{key!r} must be a list of texts, got {shorten(value)}")
    return value
