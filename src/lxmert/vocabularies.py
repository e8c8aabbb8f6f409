"""Paths of the answer and name lists of the published models, which are part of the package.

Their sources are listed in `lists/README.md`.
"""

from pathlib import Path

_FOLDER = Path(__file__).parent / "lists"

ANSWERS = {
    "vqa": _FOLDER / "vqa.json",
    "gqa": _FOLDER / "gqa.json",
    "pretraining": _FOLDER / "pretraining.json",
}
"""Answer lists by name: 3,129, 1,842 and 9,500 answers."""

OBJECTS, ATTRIBUTES = _FOLDER / "objects.txt", _FOLDER / "attributes.txt"
"""Names of the 1,600 object classes and 400 attributes of the published detector, one per line, in
the order of ids; synonyms follow after a comma."""

NUM_OBJECTS, NUM_ATTRIBUTES = 1600, 400
"""Lengths of these lists."""
