"""Jobs about a model and a data set are resumed with the same files only."""

import shutil
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT, Command

from lxmert.study import run as study
from lxmert.workflows import explanation, modalities

pytestmark = pytest.mark.long

EXAMPLES = ROOT / "src/lxmert/examples"
MODEL = ROOT / "src/lxmert/default"


@pytest.mark.parametrize(
    ("command", "options", "module", "measures"),
    [
        ("study", ("--limit", 4, "--explained", 1), study, "measure_question"),
        ("explain-eval", ("--limit", 2), explanation, "measure_batch"),
        ("explain-eval", ("--limit", 2, "--modalities"), modalities, "question_text_share"),
    ],
)
def test_an_interrupted_job_is_not_resumed_with_other_files(
    lxmert: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    command: str, options: tuple[object, ...], module: ModuleType, measures: str,
) -> None:  # fmt: skip
    """Bug: results of another model or of other questions under the same paths were mixed in."""
    model, data, output = (tmp_path / name for name in ("model", "questions.jsonl", "out"))
    shutil.copytree(MODEL, model)
    lines = (EXAMPLES / "questions.jsonl").read_text()
    data.write_text(lines)
    asked: list[int] = []

    def stop(*_: object, **__: object) -> None:
        asked.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, measures, stop)
    given = (command, model, "--data", data, "--images", EXAMPLES, "-o", output, *options)
    lxmert(*given)
    assert asked == [1]
    data.write_text("".join(reversed(lines.splitlines(keepends=True))))
    refused = lxmert(*given)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert f"{output} was started with data file " in refused.err
    data.write_text(lines)
    (model / "README.md").write_text("of another training")
    refused = lxmert(*given)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert f"{output} was started with model files " in refused.err
    assert asked == [1]
