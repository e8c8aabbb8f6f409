"""Cleaning of VQA answers: each quirk by hand, and a second implementation of the rules."""

import random

import pytest

from lxmert.metrics.vqa_answers import (
    _CONTRACTIONS,
    clean_answer,
    clean_punctuation,
    clean_words,
    strip_answer,
)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("x-y", "x y"),
        ("x -y-z", "x yz"),
        ("x- y-z", "x yz"),
        ("1,000/2,000", "10002000"),
        ("1,000 and a-b", "1000 and ab"),
        ("red, blue,green", "red bluegreen"),
        ("red,blue", "red blue"),
        ("a,1", "a 1"),
        ("what?!", "what  "),
        ("(a) b", " a b"),
        ("12:35", "12:35"),
        ("50% $5 & o'clock", "50% $5 & o'clock"),
        ("“red”… blue", "“red”… blue"),
        ("a.10", "a.10"),
        ("1.a", "1a"),
        ("wait...what", "waitwhat"),
        (".5", ".5"),
        ("3.5.", "3.5"),
        ("." * 40, "." * 8),
        (".5" * 40 + ".", ".5" * 40),
    ],
)
def test_punctuation(text: str, cleaned: str) -> None:
    assert clean_punctuation(text) == cleaned


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("No One", "no 1"),
        ("none", "0"),
        ("ten eleven", "10 eleven"),
        ("a", ""),
        ("The cat and AN owl", "cat and owl"),
        ("  wide   open ", "wide open"),
        ("dont", "don't"),
        ("don't", "don't"),
        ("DONT", "don't"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("couldntve", "couldntve"),
        ("somebodyd've somebody'dve", "somebody'd've somebody'd've"),
        ("somebody'd", "somebodyd"),
        ("yall y'allll yall'll", "y'all y'all'll y'all'll"),
        ("yall'd've y'alld've y'all'dve", "y'all'd've y'all'd've y'all'd've"),
        ("ow's'at 'ows'at 'ow'sat", "'ow's'at 'ow's'at 'ow's'at"),
        ("twas maam oclock", "'twas ma'am o'clock"),
        ("lets shes", "lets shes"),
        ("Im Ive Id've", "im ive id've"),
    ],
)
def test_words(text: str, cleaned: str) -> None:
    assert clean_words(text) == cleaned


def test_punctuation_goes_before_words() -> None:
    assert clean_answer("The T-shirt, two!") == "t shirt 2"
    assert clean_answer("a,b") == "b"


def test_only_newlines_and_tabs_become_blanks() -> None:
    assert strip_answer("\n red\tball  ") == "red ball"
    assert strip_answer("red\r\nball") == "red\r ball"


def test_contractions_change_apostrophes_only() -> None:
    assert len(_CONTRACTIONS) == 114
    for word, form in _CONTRACTIONS.items():
        assert word != form
        assert word.replace("'", "") == form.replace("'", "")
        assert clean_words(word.upper()) == form


def slow_punctuation(text: str) -> str:
    """Second implementation of the rules, one character at a time."""
    comma = any(
        text[i - 1].isdecimal() and text[i] == "," and text[i + 1].isdecimal()
        for i in range(1, len(text) - 1)
    )
    letters = []
    for letter in text:
        if letter not in ';/[]"{}()=+\\_-><@`,?!':
            letters.append(letter)
        elif not comma:
            beside = False
            for i, other in enumerate(text):
                if other == letter:
                    beside |= text[i - 1 : i] == " " or text[i + 1 : i + 2] == " "
            letters += [] if beside else [" "]
    kept, deleted = [], 0
    for i, letter in enumerate(letters):
        if letter == "." and deleted < 32 and not "".join(letters[i + 1 : i + 2]).isdecimal():
            deleted += 1
        else:
            kept.append(letter)
    return "".join(kept)


def test_random_texts_are_cleaned_by_the_rules() -> None:
    draw = random.Random(3)
    for _ in range(5000):
        text = "".join(draw.choices("ab1٣2 ,,--?/.(';", k=draw.randrange(14)))
        assert clean_punctuation(text) == slow_punctuation(text), text
    for _ in range(200):
        text = "".join(draw.choices("a1 ..........", k=90))
        assert clean_punctuation(text) == slow_punctuation(text), text
