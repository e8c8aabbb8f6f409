"""The command `check`: custom data, before anything is trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lxmert.cli.options import ImageFolder, Json
from lxmert.names import count as count_of
from lxmert.terminal import say, show_findings, show_stages

if TYPE_CHECKING:
    from lxmert.workflows.data_check import DataFacts

_SHOWN = 8


def check(
    data: Annotated[
        Path,
        typer.Argument(metavar="QUESTIONS", help="Training questions: JSONL, CSV or JSON array."),
    ],
    images: ImageFolder = None,
    valid: Annotated[Path | None, typer.Option(help="Validation questions.")] = None,
    test: Annotated[Path | None, typer.Option(help="Test questions.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model to compare words and answers with. Default: the training questions."
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with code 1 if anything is reported.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check your questions and images, and show their types, answers and words.

    Trains nothing. Exit code 2: the data cannot be used for training.

    Example: lxmert check questions.jsonl --images photos
    """
    from lxmert.files import to_json
    from lxmert.workflows.data_check import check_custom

    given = {"train": data, "valid": valid, "test": test}
    files = {split: path for split, path in given.items() if path is not None}
    with show_stages() as progress:
        facts = check_custom(files, images=images, model=model, progress=progress)
    report = facts.report.to_dict()
    if as_json:
        del report["image_names"]
        shown = {
            name: [each._asdict() for each in getattr(facts, name)] for name in ("types", "words")
        }
        print(to_json({**report, **shown, "answers": facts.answers, "rare": facts.rare}, indent=1))
    else:
        _show(facts, report["findings"])
    if facts.report.stops():
        raise typer.Exit(2)
    if strict and facts.report.stops(strict=True):
        raise typer.Exit(1)


def _show(facts: "DataFacts", findings: Sequence[Mapping[str, object]]) -> None:
    """Print findings, types, answers and words."""
    from lxmert.workflows.data_check import RARE

    show_findings(facts.report.summary(), findings)
    if facts.types:
        width = max(13, *(len(each.name) for each in facts.types))
        title = f"{'question type':<{width}}  questions  answers  majority  question only"
        say(f"\nsplit  {title}  most frequent")
        for each in facts.types:
            guessed = "" if each.question_only is None else f"{each.question_only:.1%}"
            numbers = f"{each.questions:9,}  {each.answers:7,}  {each.majority_share:8.1%}"
            say(f"{each.split:<5}  {each.name:<{width}}  {numbers}  {guessed:>13}  {each.majority}")
    if facts.answers:
        say(f"\n{count_of(len(facts.answers), 'answer')} in training: {_most(facts.answers)}")
    if facts.rare:
        number = count_of(len(facts.rare), "answer")
        say(f"{number} with fewer than {RARE} training questions: {_some(facts.rare[::-1])}")
    for words in facts.words:
        line = f"{words.split}: {count_of(words.words, 'different word')}"
        if words.unknown:
            line += f", {len(words.unknown):,} unknown in {count_of(words.questions, 'question')}: "
            line += _some(words.unknown)
        say(line)


def _most(answers: Mapping[str, int]) -> str:
    """Return the most frequent answers with their shares."""
    total = sum(answers.values())
    shown = [f"{name} {number / total:.1%}" for name, number in list(answers.items())[:_SHOWN]]
    return ", ".join(shown) + (", ..." if len(answers) > _SHOWN else "")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
