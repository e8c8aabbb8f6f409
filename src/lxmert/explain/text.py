"""Formatting of fractions and texts for the terminal, the report and figures."""

import math
import unicodedata

_HIDDEN = {"Cc", "Cs"}
"""Categories of control characters and unpaired surrogates."""

_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the writing direction of the following text."""


def percent(share: float) -> str:
    """Format a fraction in `[0, 1]` with one decimal; only 0 is `0.0%`, and only 1 is `100.0%`.

    `percent` in `report.js` is the same; a test compares them.
    """
    if 0 < share < 0.0005:
        return "<0.1%"
    if 0.9995 <= share < 1:
        return ">99.9%"
    return f"{math.floor(1000 * share + 0.5) / 10:.1f}%"  # rounds half up like JavaScript


def signed_percent(difference: float) -> str:
    """Format a difference of two fractions, in `[-1, 1]`, with its sign."""
    return f"{'-' if difference < 0 else '+'}{percent(abs(difference))}"


def printable(text: str) -> str:
    """Replace characters that fonts cannot draw or that change the surrounding text."""
    return "".join(
        " "
        if sign.isspace()
        else "\N{REPLACEMENT CHARACTER}"
        if unicodedata.category(sign) in _HIDDEN or sign in _TURNING
        else sign
        for sign in text
    )
