"""Every word that a text about scenes may use: the word list that all models of the world share."""

import re
from collections.abc import Iterator, Mapping

from lxmert.lab.scenes import (
    attributes,
    captions,
    counting,
    hops,
    places,
    relations,
    statements,
)
from lxmert.lab.scenes.descriptions import SYNONYMS, THINGS, VALUES
from lxmert.lab.scenes.vocabulary import NUMBERS, plural

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""As BERT's tokenizers name them."""

_PUNCTUATION = (",", ".", ":", "?")
_FRAMES = "an empty table and of the same, exactly at least at most is are a other"
"""What captions, statements and questions put together without a form."""


def all_words() -> list[str]:
    """Return the words and punctuation marks in alphabetical order, in lower case."""
    found = set(_PUNCTUATION)
    values = [value for values in VALUES.values() for value in values]
    nouns = [noun for forms in THINGS for noun in forms]
    for value in values:
        said = SYNONYMS.get(value, (value,))
        nouns += [*said, *(plural(word) for word in said if value in VALUES["name"])]
    for text in (_FRAMES, *values, *nouns, *NUMBERS, *relations.SHARED, *VALUES, *_forms()):
        found.update(re.findall(r"[a-z]+", re.sub(r"{.*?}", " ", text.lower())))
    # "have different {aspect}s"
    found.update(aspect + "s" for aspect in relations.SHARED)
    return sorted(found - {"s"})


def _forms() -> Iterator[str]:
    """Yield the sentence forms of all modules that have some."""
    for module in (attributes, counting, places, relations, hops, captions, statements):
        for name, value in vars(module).items():
            if name.endswith("FORMS") or name == "SIDE_WORDS":
                groups = value.values() if isinstance(value, Mapping) else [value]
                for forms in groups:
                    yield from forms
