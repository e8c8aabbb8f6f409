"""Every word in texts about scenes: the word list shared by all models of the miniature world."""

import re

from lxmert.lab.scenes.descriptions import SYNONYMS, THINGS, VALUES
from lxmert.lab.scenes.relations import SHARED
from lxmert.lab.scenes.vocabulary import FORMS, NUMBERS, plural

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
    forms = [form for kind in FORMS.values() for variant in kind.values() for form in variant]
    for text in (_FRAMES, *values, *nouns, *NUMBERS, *SHARED, *VALUES, *forms):
        found.update(re.findall(r"[a-z]+", re.sub(r"{.*?}", " ", text.lower())))
    # "have different {aspect}s"
    found.update(aspect + "s" for aspect in SHARED)
    return sorted(found - {"s"})
