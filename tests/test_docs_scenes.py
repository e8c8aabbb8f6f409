"""Commands of docs/scenes.md and docs/ablations.md run, and their tables are those of the code."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Command
from lab.scenes.reading import skeleton
from lab.scenes.scenes import make_scenes

from docs import check_links, code_blocks, commands
from lxmert.lab.scenes.questions import QUESTION_TYPES, ask
from lxmert.lab.scenes.statements import make_group
from lxmert.lab.sweep import check_plan, make_plan, read_sweep

SCENES = (ROOT / "docs/scenes.md").read_text(encoding="utf-8")
ABLATIONS = (ROOT / "docs/ablations.md").read_text(encoding="utf-8")


def table(page: str, heading: str) -> dict[str, str]:
    """Return the first two columns of the table below a heading."""
    part = page.split(f"## {heading}")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")]
    return {row[0]: row[1] for row in rows[2:]}


@pytest.mark.long
def test_commands_run_in_order(
    lxmert: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for program, *arguments in commands(SCENES):
        assert program == "lxmert"
        result = lxmert(*arguments)
        assert result.code == 0, f"{arguments}\n{result}"
    files = table(SCENES, "Files")
    made = {path.name for path in Path("runs/scenes/train").iterdir()}
    assert made == {name.strip("`/") for name in files}
    assert Path("runs/scenes/train.png").is_file()


@pytest.mark.long
def test_every_question_type_has_an_example_that_is_really_said() -> None:
    generator = np.random.default_rng(3)
    scenes = make_scenes(60)
    said: dict[str, set[str]] = {question_type: set() for question_type in QUESTION_TYPES}
    for scene in scenes:
        for question in ask(scene, generator, rounds=12):
            said[question.question_type].add(skeleton(question.text))
    examples = table(SCENES, "Questions")
    assert list(examples) == list(QUESTION_TYPES)
    for question_type, text in examples.items():
        assert skeleton(text) in said[question_type], text
    things = [scene.things for scene in scenes]
    stated: dict[str, set[str]] = {}
    for _ in range(1200):
        statement, _ = make_group(things, generator)
        stated.setdefault(statement.question_type, set()).add(skeleton(statement.text))
    examples = table(SCENES, "Statements about two images")
    assert set(examples) == set(stated)
    for question_type, text in examples.items():
        assert skeleton(text) in stated[question_type], text


def test_the_comparison_on_the_page_is_a_valid_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    (text,) = code_blocks(ABLATIONS, "toml")
    path = tmp_path / "own.toml"
    path.write_text(text)
    check_plan(make_plan(read_sweep(path), tmp_path))


def test_long_commands_exist(lxmert: Command) -> None:
    targets, command, _, own = (
        text.strip().splitlines() for text in code_blocks(ABLATIONS, "text")
    )
    options = {word for word in own[0].split() if word.startswith("-")}
    assert options == {word for word in command[0].split() if word.startswith("-")}
    dry = subprocess.run(
        # Where nothing was made yet.
        ["make", "--dry-run", "RUN=absent", *(line.removeprefix("make ") for line in targets)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    made = [line.strip() for line in dry.stdout.replace("\\\n", " ").splitlines()]
    made = [" ".join(line.split()) for line in made if ".venv/bin/lxmert" in line]
    assert any(line.endswith(command[0]) for line in made)
    kinds = [line.split(".venv/bin/lxmert ")[1].split()[0] for line in made]
    assert sorted(kinds) == ["extract", "extract", "lab", "lab", "lab", "lab", "lab"]
    for line in made:
        name, *options = line.split(".venv/bin/lxmert ")[1].split()
        known = lxmert(name, *options[: name == "lab"], "--help").out
        assert all(option in known for option in options if option.startswith("--")), line


def test_what_is_copied_from_one_comparison_to_another_is_the_same_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    runs = {
        run.folder: run
        for name in ("ablations", "learning-curve", "transfer")
        for run in make_plan(read_sweep(Path(name)), Path("runs", name)).values()
    }
    *_, copies, _ = code_blocks(ABLATIONS, "text")
    commands = [line.split() for line in copies.splitlines() if line.startswith("cp -r")]
    assert len(commands) == 2
    for *_, source, target in commands:
        copied = runs[Path(target, Path(source).name)]
        assert copied.read() == runs[Path(source)].read()
        assert copied.parent is runs[Path(source)].parent is None


@pytest.mark.parametrize("page", [SCENES, ABLATIONS], ids=["scenes", "ablations"])
def test_links_lead_somewhere(page: str) -> None:
    check_links(page, ROOT / "docs")
