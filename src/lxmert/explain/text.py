"""How shares and texts are written, alike on the terminal, in the report and in figures."""

import math
import unicodedata

_HIDDEN = {"Cc", "Cs"}
"""Categories of control characters and of halves of surrogate pairs."""

_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that let what follows be written the other way round."""


def percent(share: float) -> str:
    """Write a share in `[0, 1]` with one decimal; only 0 is `0.0%`, and only 1 is `100.0%`.

    `percent` of `report.js` does the same: a test compares them.
    """
    if 0 < share < 0.0005:
        return "<0.1%"
    if 0.9995 <= share < 1:
        return ">99.9%"
    return f"{math.floor(1000 * share + 0.5) / 10:.1f}%"  # half up, as JavaScript rounds


def signed_percent(difference: float) -> str:
    """Write a difference of two shares, in `[-1, 1]`, with its sign."""
    return f"{'-' if difference < 0 else '+'}{percent(abs(difference))}"


def printable(text: str) -> str:
    """Replace what a font cannot draw, or what would change the text around it."""
    return "".join(
        " "
        if sign.isspace()
        else "\N{REPLACEMENT CHARACTER}"
        if unicodedata.category(sign) in _HIDDEN or sign in _TURNING
        else sign
        for sign in text
    )
