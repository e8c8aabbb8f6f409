"""Reading texts about scenes back by their words alone, without the program that they came from."""

import re

from lxmert.lab.scenes.descriptions import SYNONYMS, VALUES, Description
from lxmert.lab.scenes.vocabulary import plural

WORDS = {
    word: (aspect, value)
    for aspect, values in VALUES.items()
    for value in values
    for word in SYNONYMS.get(value, (value,))
}
WORDS |= {plural(word): meant for word, meant in list(WORDS.items()) if meant[0] == "name"}
NOUNS = {word for word, (aspect, _) in WORDS.items() if aspect == "name"} | {
    "thing", "things", "object", "objects", "item", "items",
}  # fmt: skip


def words(text: str) -> list[str]:
    text = text.lower().removeprefix("can you")  # a can, but no object
    return re.findall(r"[a-z-]+", text)


def read(text: str) -> Description:
    """Read the only description in a text."""
    return dict(WORDS[word] for word in words(text) if word in WORDS)


def read_all(text: str) -> list[Description]:
    """Read the descriptions in a text, each of which ends with a noun."""
    found: list[Description] = []
    open_words: list[tuple[str, str]] = []
    for word in words(text):
        if word in WORDS:
            open_words.append(WORDS[word])
        if word in NOUNS:
            found.append(dict(open_words))
            open_words = []
        elif word not in WORDS:
            open_words = []
    return found


def skeleton(text: str) -> str:
    """Return a text without what differs between scenes."""
    skipped = NOUNS | WORDS.keys() | {"a", "an"}
    return " ".join(word for word in words(text) if word not in skipped)
