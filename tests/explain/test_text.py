"""Fractions have one decimal and are never rounded to 0% or 100%."""

import pytest

from lxmert.explain.text import percent, printable, signed_percent


@pytest.mark.parametrize(
    ("share", "written"),
    [
        (0.0, "0.0%"),
        (1e-9, "<0.1%"),
        (0.0005, "0.1%"),
        (0.1225, "12.3%"),
        (0.5, "50.0%"),
        (0.9994, "99.9%"),
        (0.99951, ">99.9%"),
        (0.999999999, ">99.9%"),
        (1.0, "100.0%"),
    ],
)
def test_only_nothing_is_zero_and_only_all_is_a_hundred(share: float, written: str) -> None:
    """99.97% was 100% in figures and 100.0% on the terminal."""
    assert percent(share) == written


def test_differences_have_their_sign() -> None:
    assert [signed_percent(x) for x in (0.25, 0.0, -0.25, -1e-6)] == [
        "+25.0%", "+0.0%", "-25.0%", "-<0.1%",
    ]  # fmt: skip


def test_what_a_font_cannot_draw_is_replaced() -> None:
    """Bug: an escape character made invalid SVG files, an unpaired surrogate a traceback."""
    assert (
        printable("a\x1b[31m b\udc80\x00\x9f\u202ec\td\ne")
        == "a\ufffd[31m b\ufffd\ufffd\ufffd\ufffdc d e"
    )
    assert printable("wörter, 日本語, \U0001f600, <b>") == "wörter, 日本語, \U0001f600, <b>"
