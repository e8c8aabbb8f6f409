"""The page on published weights says what the table says."""

from conftest import ROOT

from lxmert.weights.describing import size_text
from lxmert.weights.table import HUB, PUBLISHED, find_name

PAGE = (ROOT / "docs/weights.md").read_text()


def table_lines() -> list[str]:
    """Return the table of the page on published weights, in Markdown."""
    rows = ["| name | what it is | size | published scores | license |", "|---|---|---|---|---|"]
    for name, entry in PUBLISHED.items():
        size = size_text(sum(file.about for file in entry.files))
        title = f"{entry.title} (`{entry.repository}`)" if entry.repository else entry.title
        rows.append(f"| `{name}` | {title} | {size} | {entry.scores} | {entry.license} |")
    return rows


def test_the_page_has_the_table() -> None:
    assert "\n".join(table_lines()) in PAGE


def test_each_row_can_be_fetched_and_used() -> None:
    for name, entry in PUBLISHED.items():
        assert find_name(name) == name
        assert all(file.urls for file in entry.files)
        names = [file.name.rsplit("/", 1)[-1] for file in entry.files]
        if entry.kind == "model":
            assert entry.answers
            assert all(PUBLISHED[each].kind == "detector" for each in entry.extractors)
            assert "vocab.txt" in names[:-1]
        if entry.repository:
            assert find_name(entry.repository) == name
            assert all(
                file.urls[0] == f"{HUB}{entry.repository}/resolve/main/{short}"
                for file, short in zip(entry.files, names, strict=True)
            )
