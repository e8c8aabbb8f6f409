"""Questions with the answers of others, to train a model that can learn no more than its data."""

from pathlib import Path
from typing import Any

import numpy as np

from lxmert.data.corpus import Corpus
from lxmert.data.lines import scan_lines
from lxmert.files import to_json, write_text
from lxmert.names import count

_ANSWERS = ("answer", "answers")
"""Keys of a line that hold its answers."""


def shuffle_answers(path: Path, output: Path, *, seed: int = 0) -> tuple[int, int]:
    """Give every question with an answer that of another one; all answers stay as frequent.

    Args:
        path: JSONL file of questions; those without an answer are left out.
        output: JSONL file to write; all other keys of the lines stay in place.
        seed: seed of the permutation.

    Returns:
        The number of questions, and of those whose answers differ; others got equal answers.

    Raises:
        ValueError: if a line is no question, or fewer than two have an answer.

    Source: Adebayo et al. 2018, data randomization test.
    """
    corpus = Corpus.read([path], strict=True)
    answered = np.flatnonzero(corpus.num_answers())
    if len(answered) < 2:
        raise ValueError(
            f"{path} has {count(len(answered), 'question')} with an answer: expected at least two"
        )
    order = np.random.default_rng(seed).permutation(answered)
    lines = [line.record or {} for line in scan_lines(path)]
    pairs = list(zip(answered.tolist(), order.tolist(), strict=True))
    mixed = [_exchange(lines[row], lines[other]) for row, other in pairs]
    write_text(output, "".join(f"{to_json(line)}\n" for line in mixed))
    changed = sum(corpus.answers(row) != corpus.answers(other) for row, other in pairs)
    return len(mixed), changed


def _exchange(line: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return a line with the answers of another one."""
    kept = {key: value for key, value in line.items() if key not in _ANSWERS}
    return kept | {key: other[key] for key in _ANSWERS if key in other}
