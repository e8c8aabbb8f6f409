"""Values in templates: escaped in pages only, formatted, and never missing."""

from pathlib import Path

import pytest
from jinja2 import UndefinedError

from lxmert.templates import fill


@pytest.mark.parametrize(
    ("suffix", "text"), [(".html", "&lt;b&gt; 12.5%\n"), (".md", "<b> 12.5%\n")]
)
def test_values_are_escaped_in_pages_only(tmp_path: Path, suffix: str, text: str) -> None:
    path = tmp_path / f"page{suffix}"
    path.write_text('{{ name }} {{ share | form(".1%") }}\n')
    assert fill(path, name="<b>", share=0.125) == text


def test_a_name_without_a_value_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "card.md"
    path.write_text("{{ name }}")
    with pytest.raises(UndefinedError, match="name"):
        fill(path, nmae="x")
