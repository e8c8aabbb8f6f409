"""Names and counts in messages."""

import pytest

from lxmert.names import count, did_you_mean, file_size, nearest, reason

ANSWERS = ["0", "1", "2", "black", "pine", "yes", "Yellow"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("blak", "black"),
        ("BLACK", "black"),
        ("yelow", "Yellow"),
        ("ink", ""),
        ("zebra", ""),
        ("", ""),
        ("x" * 100_000, ""),
    ],
)
def test_only_what_is_near_is_suggested(name, expected):
    """Cutoffs of 0 named any candidate whatever, and upper case was far from lower case."""
    assert nearest(name, ANSWERS) == [expected] * bool(expected)
    assert did_you_mean(name, ANSWERS) == (f"did you mean {expected!r}?" if expected else "")


def test_several_and_names_that_differ_in_case_only():
    assert nearest("val", ["value", "Val", "vals", "zoo"], n=2) == ["Val", "vals"]
    assert nearest("no", ["No", "NO", "on"], n=2) == ["No", "NO"]
    assert nearest("val", []) == []
    assert nearest("question_type", ["question_id"], cutoff=0.8) == []


def test_one_is_counted_without_an_s():
    """Messages said "1 images" and "the 1 questions"."""
    assert count(1, "image") == "1 image"
    assert count(0, "image") == "0 images"
    assert count(12_345, "question") == "12,345 questions"
    assert count(2, "entry", "entries") == "2 entries"
    assert count(1, "entry", "entries") == "1 entry"


def test_sizes_of_small_files_are_not_zero():
    """Bug: `lxmert info` said that a region store had 0.0 MB."""
    assert file_size(15_720_000) == "15.7 MB"
    assert file_size(45_300) == "45 kB"


@pytest.mark.parametrize(
    ("error", "first", "last"),
    [
        (MemoryError(), "MemoryError", "MemoryError"),
        (TimeoutError("  \n"), "TimeoutError", "TimeoutError"),
        (ValueError("\nbad file\nTraceback\nthe cause\n"), "bad file", "the cause"),
        (KeyError("a"), "'a'", "'a'"),
    ],
)
def test_every_error_has_a_reason(error, first, last):
    """Bug: one without a message ended a job on many machines with an IndexError."""
    assert (reason(error), reason(error, last=True)) == (first, last)
