"""Every word in texts about scenes: the word list shared by all models of the miniature world."""

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
"""Special tokens of BERT's tokenizers."""

_PUNCTUATION = (",", ".", ":", "?")
_FRAMES = "an empty table and of the same, exactly at least at most is are a other"
"""Words that captions, statements and questions use outside of templates."""


def all_words() -> list[str]:
    """Return words and punctuation marks in alphabetical order, in lower case."""
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
    """Yield the sentence templates of all modules."""
    for module in (attributes, counting, places, relations, hops, captions, statements):
        for name, value in vars(module).items():
            if name.endswith("FORMS") or name == "SIDE_WORDS":
                groups = value.values() if isinstance(value, Mapping) else [value]
                for forms in groups:
                    yield from forms
