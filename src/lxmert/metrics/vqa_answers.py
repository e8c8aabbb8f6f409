"""Answer normalization of the official VQA evaluator."""

import re
from functools import lru_cache

_SIGNS = frozenset(';/[]"{}()=+\\_-><@`,?!')
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
# The official pattern also has a lookbehind for a digit, but it is malformed and never matches.
_PERIOD = re.compile(r"\.(?!\d)")
_MAX_PERIODS = 32
"""The official code passes `re.UNICODE`, which is 32, as the number of replacements."""

_NUMBER_WORDS = "zero one two three four five six seven eight nine ten"
_NUMBERS = {word: str(number) for number, word in enumerate(_NUMBER_WORDS.split())} | {"none": "0"}
_ARTICLES = frozenset(("a", "an", "the"))

_FULL_FORMS = """
    ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd
    how'll how's isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock
    oughtn't shan't should've shouldn't somebody'll somebody's someone'd someone'll someone's
    something'd something'll that's there'd there're there's they'd they'll they're they've 'twas
    wasn't we've weren't what'll what're what's what've when's where'd where's where've who'd who'll
    who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've
"""
"""Restored if the apostrophe is missing. The official table also has I'm, I've and I'd've, which
never match a lower-cased word; let's and she's map to themselves."""

_DOUBLE_FORMS = """
    couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've
    someone'd've something'd've there'd've they'd've we'd've who'd've wouldn't've y'all'll you'd've
"""
"""Restored if one of the two apostrophes is missing, but not if both are."""

_ODD_FORMS = {
    "yall'd've": "y'all'd've",
    "y'alld've": "y'all'd've",
    "y'all'dve": "y'all'd've",
    "ow's'at": "'ow's'at",
    "'ows'at": "'ow's'at",
    "'ow'sat": "'ow's'at",
    "somebody'd": "somebodyd",
}


@lru_cache(maxsize=1 << 16)
def clean_answer(answer: str) -> str:
    """Normalize an answer like the official evaluator: punctuation first, then words.

    Results are cached, since a split with a million answers repeats a few thousand of them.

    Source: the rules of GT-Vision-Lab's `vqaEval`, including its quirks.
    """
    return clean_words(clean_punctuation(answer))


def strip_answer(answer: str) -> str:
    """Replace newlines and tabs by spaces and strip both ends; applied to every answer."""
    return answer.replace("\n", " ").replace("\t", " ").strip()


def clean_punctuation(text: str) -> str:
    """Remove punctuation: "x-y" -> "x y", "1,000/2,000" -> "10002000", "3.5 m." -> "3.5 m".

    All occurrences of a character are deleted if one of them is next to a space, or if any two
    digits have a comma between them; otherwise they become spaces. Then up to 32 periods that are
    not followed by a digit are deleted.
    """
    cleaned = text
    in_number = _COMMA_IN_NUMBER.search(text) is not None
    for sign in _SIGNS.intersection(text):
        delete = in_number or f"{sign} " in text or f" {sign}" in text
        cleaned = cleaned.replace(sign, "" if delete else " ")
    return _PERIOD.sub("", cleaned, count=_MAX_PERIODS)


def clean_words(text: str) -> str:
    """Lower-case, write number words as digits, remove articles, restore apostrophes."""
    words = [_NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def _contractions() -> dict[str, str]:
    table = {form.replace("'", ""): form for form in _FULL_FORMS.split()}
    for form in _DOUBLE_FORMS.split():
        head, middle, tail = form.split("'")
        table[f"{head}{middle}'{tail}"] = form
        table[f"{head}'{middle}{tail}"] = form
    return table | _ODD_FORMS


_CONTRACTIONS = _contractions()
