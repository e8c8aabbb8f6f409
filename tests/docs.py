"""What the tests of documentation pages share: their code blocks, commands, tables and links."""

import re
import shlex
from pathlib import Path


def code_blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a page that are marked with a language."""
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def command_lines(page: str, language: str = "sh") -> list[str]:
    """Return the command lines of a page; continued lines are joined."""
    return [line for block in code_blocks(page, language) for line in join_lines(block)]


def join_lines(block: str) -> list[str]:
    """Return the command lines of a code block; continued lines are joined."""
    return block.replace("\\\n", " ").strip().splitlines()


def commands(page: str, language: str = "sh") -> list[list[str]]:
    """Return the commands of a page, each split into its arguments."""
    return list(map(shlex.split, command_lines(page, language)))


def table_below(page: str, start: str) -> list[list[str]]:
    """Return the cells of the table whose header starts with `start`, without the header."""
    table = page.partition(start)[2].partition("\n\n")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]
    ]


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def check_links(page: str, folder: Path) -> None:
    """Fail if a relative link leads to no file, or to no heading of a page."""
    links = re.findall(r"\]\(([^):]+)\)", page)
    assert links
    for link in links:
        name, _, anchor = link.partition("#")
        target = (folder / name).resolve() if name else None
        assert target is None or target.is_file(), link
        if anchor:
            assert anchor in anchors(page if target is None else target.read_text("utf-8")), link
