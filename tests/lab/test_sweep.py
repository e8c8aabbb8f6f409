"""Sweeps: which runs are made, how their scores become a table and a figure, what is refused."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Command
from PIL import Image

from lxmert.lab.sweep import (
    Sweep,
    SweepRow,
    SweepStage,
    check_inputs,
    check_plan,
    make_plan,
    read_sweep,
    run_plan,
)
from lxmert.lab.sweep_report import as_markdown, check_report, collect, draw_report, write_report
from lxmert.locks import FolderLock

STAGES = {
    "text": SweepStage(recipe="pre.toml", set=("model.x_layers=0",), output="language"),
    "pretraining": SweepStage(recipe="pre.toml", set=("optim.steps=7",)),
    "answering": SweepStage(recipe="ask.toml", metric="overall"),
    "pairs": SweepStage(recipe="pairs.toml", metric="accuracy"),
}
ROWS = (
    SweepRow(name="Pretrained", init_from=("pretraining",), paper={"VQA": 69.9, "NLVR2": 74.9}),
    SweepRow(name="Few", init_from=("pretraining",), set={"answering": ("data.limit=9",)}),
    SweepRow(name="From language", init_from=("text", "pretraining")),
    SweepRow(name="From scratch", paper={"VQA": 65.1}),
)
RECIPE = """
task = "pairs"
[data]
train = "{0}/questions"
valid = "{0}/questions"
regions = "{0}"
valid_regions = "{0}"
[optim]
lr = 1.0
batch_size = 1
steps = 5
"""


def make(
    rows: tuple[SweepRow, ...] = ROWS, seeds: tuple[int, ...] = (3, 8), **other: object
) -> Sweep:
    """Compare rows; only stages that one of them goes through are there."""
    used = {name for row in rows for name in row.init_from}
    stages = {name: stage for name, stage in STAGES.items() if stage.metric or name in used}
    return Sweep(**{"title": "Small", "seeds": seeds, "stages": stages, "rows": rows, **other})


def finish(folder: Path, metrics: dict[str, float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "finished.json").write_text(json.dumps({"steps": 1, "metrics": metrics}))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe whose runs fail at once: its regions are no store."""
    (tmp_path / "questions").touch()
    path = tmp_path / "pairs.toml"
    path.write_text(RECIPE.format(tmp_path))
    return path


def one_stage(recipe: Path, *rows: SweepRow) -> Sweep:
    stages = {"pairs": SweepStage(recipe=str(recipe), metric="accuracy")}
    return Sweep(title="Small", seeds=(1,), stages=stages, rows=rows)


def test_runs_that_rows_share_are_trained_once_for_each_seed() -> None:
    plan = make_plan(make(), Path("out"))
    shared = plan["Pretrained", 3, "pretraining"]
    assert plan["Few", 3, "pretraining"] is shared
    assert plan["Few", 3, "pairs"] is plan["Pretrained", 3, "pairs"]
    assert plan["Pretrained", 8, "pretraining"] is not shared
    assert len(set(plan.values())) == 2 * (3 + 1 + 4 + 2)
    assert shared.folder == Path("out/pretrained/seed-3/pretraining")


def test_stages_follow_each_other_and_the_row_overrides_last() -> None:
    plan = make_plan(make(set=("optim.steps=9",)), Path("out"))
    few, language = plan["Few", 3, "answering"], plan["From language", 8, "pretraining"]
    source = "model.init_from=out/pretrained/seed-3/pretraining"
    assert few.overrides == ("optim.steps=9", source, "seed=3", "data.limit=9")
    assert language.overrides[:2] == ("optim.steps=9", "optim.steps=7")
    text = plan["From language", 8, "text"]
    assert (text.parent, language.parent) == (None, text)
    assert f"model.init_from={text.folder}/language-side" in language.overrides
    assert "model.init_from=" in plan["From scratch", 3, "answering"].overrides


def test_the_table_has_mean_and_spread_beside_published_scores(tmp_path: Path) -> None:
    sweep = make()
    plan = make_plan(sweep, tmp_path)
    finish(plan["Pretrained", 3, "answering"].folder, {"overall": 0.5, "majority": 0.2})
    finish(plan["Pretrained", 8, "answering"].folder, {"overall": 0.6, "question_only": 0.45})
    finish(plan["From scratch", 3, "answering"].folder, {"overall": 0.4})
    finish(plan["From scratch", 8, "pairs"].folder, {"accuracy": 0.25})
    text = write_report(sweep, collect(sweep, plan), tmp_path, {})
    # Of 50 and 60, the sample standard deviation is 10 / sqrt(2).
    assert "| Pretrained | 55.0 ± 7.1 |  | 69.9 | 74.9 |\n" in text
    assert "| From scratch | 40.0 (1) | 25.0 (1) | 65.1 |  |\n" in text
    assert "| row | answering (overall) | pairs (accuracy) | paper: VQA | paper: NLVR2 |" in text
    assert "best baseline without images reaches 45.0; not above it: From scratch." in text
    assert (tmp_path / "report.md").read_text() == text
    check_report(sweep, tmp_path)
    with pytest.raises(ValueError, match="is not the report of 'Other' and would be overwritten"):
        check_report(sweep.replace(title="Other"), tmp_path)


def test_only_shares_are_in_percent_and_bars_are_escaped(tmp_path: Path) -> None:
    """Bug: a count of 600 images was shown as 60000.0; a `|` moved scores to other columns."""
    stages = {"retrieval": SweepStage(recipe="rank.toml", metric="error")}
    sweep = Sweep(title="Small", seeds=(3,), stages=stages, rows=(SweepRow(name="lr | high"),))
    plan = make_plan(sweep, tmp_path)
    finish(plan["lr | high", 3, "retrieval"].folder, {"error": 600})
    assert r"| lr \| high | 600.0 |" in as_markdown(sweep, collect(sweep, plan), {})


def test_dots_and_curves_are_drawn_where_the_scores_are(tmp_path: Path) -> None:
    rows = tuple(SweepRow(name=name, set={"pairs": (f"data.limit={name}",)}) for name in "789")
    stages = {"pairs": SweepStage(recipe="pairs.toml", metric="accuracy")}
    sweep = Sweep(title="Small", seeds=(3, 8), stages=stages, rows=rows)
    plan = make_plan(sweep, tmp_path)
    for row, score in zip(rows, (0.8, 0.7, 0.5), strict=True):
        for seed in sweep.seeds:
            finish(plan[row.name, seed, "pairs"].folder, {"accuracy": score})
    draw_report(sweep, collect(sweep, plan), tmp_path / "dots.png")
    pixels = np.asarray(Image.open(tmp_path / "dots.png").convert("RGB")).astype(int)
    ours = np.abs(pixels - (0x3A, 0x6E, 0xC8)).max(axis=2) < 12
    lines = [np.flatnonzero(line) for line in ours if line.any()]
    dots = [line for line in lines if len(line) >= 9 and np.ptp(line) == len(line) - 1]
    first, second, third = dict.fromkeys(int(line.mean()) for line in dots)  # from the top
    assert (first - third) / (first - second) == pytest.approx(3, abs=0.1)
    curved = tuple(row.replace(line="all", at=10 * int(row.name)) for row in rows)
    draw_report(sweep.replace(rows=curved), collect(sweep, plan), tmp_path / "curve.svg")
    drawn = (tmp_path / "curve.svg").read_text()
    assert all(f"<!-- {text} -->" in drawn or f">{text}<" in drawn for text in ("70", "80", "90"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": (3, 3)}, "seeds must be distinct"),
        ({"rows": ()}, "at least one seed, one row"),
        ({"rows": (SweepRow(name="a b"), SweepRow(name="A-B"))}, "rows need distinct names"),
        ({"rows": (SweepRow(name="a\nb"),)}, "printable text in one line"),
        ({"rows": (SweepRow(name="a", init_from=("pretrainin",)),)}, "unknown stage 'pretrainin'"),
        ({"rows": (SweepRow(name="a", set={"text": ("a=1",)}),)}, "which is not in its init_from"),
        ({"rows": (SweepRow(name="a"),)}, "stage 'text' has no metric and no row is initialized"),
        ({"set": ("seed=1",)}, "set changes seed: use seeds instead"),
        ({"set": ("optim.lr",)}, "set has 'optim.lr', expected KEY=VALUE"),
    ],
)
def test_what_would_be_ignored_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sweep(**{"title": "x", "seeds": (1,), "stages": STAGES, "rows": ROWS, **changes})


def test_a_metric_that_no_run_has_is_named(tmp_path: Path) -> None:
    """Bug: it raised a KeyError once the first run was finished."""
    plan = make_plan(make(), tmp_path)
    finish(plan["From scratch", 3, "pairs"].folder, {"acc": 0.5})
    with pytest.raises(ValueError, match=r"stages\.pairs\.metric: accuracy is unknown"):
        collect(make(), plan)


def test_mistakes_show_before_the_first_run(tmp_path: Path, recipe: Path) -> None:
    """Bug: missing files were only reported after the parent runs were trained."""
    plan = make_plan(one_stage(recipe, SweepRow(name="a")), tmp_path)
    check_plan(plan)
    check_inputs(plan)
    (tmp_path / "questions").unlink()
    with pytest.raises(FileNotFoundError, match=r"a/seed-1/pairs: data\.train is .*, which does"):
        check_inputs(plan)
    (tmp_path / "questions").touch()
    wrong = SweepRow(name="b", set={"pairs": ("optim.lrate=2",)})
    with pytest.raises(ValueError, match=r"b/seed-1/pairs: .*optim\.lrate"):
        check_plan(make_plan(one_stage(recipe, wrong), tmp_path))
    with pytest.raises(ValueError, match="rows 'a' and 'c' are the same"):
        check_plan(make_plan(one_stage(recipe, SweepRow(name="a"), SweepRow(name="c")), tmp_path))


def test_files_are_read_over_their_base_and_mistakes_are_named(tmp_path: Path) -> None:
    (tmp_path / "common.toml").write_text(
        'seeds = [1, 2]\n[stages.pairs]\nrecipe = "pairs.toml"\nmetric = "accuracy"\n'
    )
    path = tmp_path / "own.toml"
    path.write_text('base = "common.toml"\ntitle = "Own"\nseeds = [3]\n[[rows]]\nname = "a"\n')
    sweep = read_sweep(path)
    assert (sweep.seeds, sweep.compared) == ((3,), ["pairs"])
    path.write_text('base = "common.toml"\ntitle = "Own"\nrow = []\n')
    with pytest.raises(ValueError, match=r"own\.toml: .*unknown key 'row' \(did you mean 'rows'"):
        read_sweep(path)
    path.write_text('task = "pairs"\n')
    with pytest.raises(ValueError, match="is a training recipe: use lxmert train"):
        read_sweep(path)
    assert read_sweep(Path("transfer")).compared == ["pairs"]


@pytest.mark.long
def test_a_failed_run_is_reported_with_its_reason_and_its_dependents(
    tmp_path: Path, recipe: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: the first failure ended the sweep, or was reported after hours with empty logs."""
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    stages = {
        "first": SweepStage(recipe=str(recipe)),
        "second": SweepStage(recipe=str(recipe), metric="accuracy"),
    }
    rows = (
        SweepRow(name="a", init_from=("first",)),
        SweepRow(name="b", set={"second": ("optim.steps=6",)}),
    )
    sweep = Sweep(title="x", seeds=(1,), stages=stages, rows=rows)
    plan = make_plan(sweep, tmp_path)
    lines: list[str] = []
    failed = {
        str(run.folder.relative_to(tmp_path)): why
        for run, why in run_plan(plan, jobs=2, changed=lines.append).items()
    }
    assert failed.keys() == {"a/seed-1/first", "a/seed-1/second", "b/seed-1/second"}
    assert str(tmp_path) in failed["a/seed-1/first"]
    assert failed["a/seed-1/second"] == f"it depends on {tmp_path}/a/seed-1/first"
    assert "0 of 3 runs finished, 3 failed" in lines[-1]
    assert (tmp_path / "a/seed-1/first.log").read_text()


def test_finished_runs_are_not_trained_again(tmp_path: Path, recipe: Path) -> None:
    plan = make_plan(one_stage(recipe, SweepRow(name="a")), tmp_path)
    finish(plan["a", 1, "pairs"].folder, {"accuracy": 0.5})
    assert run_plan(plan, jobs=1, changed=lambda status: None) == {}
    assert not (tmp_path / "a/seed-1/pairs.log").exists()


def test_an_interruption_ends_the_runs(
    tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: with SIGINT for the parent process alone, a run was trained to its end."""
    started: list[subprocess.Popen[bytes]] = []

    def start_slowly(run: object) -> "subprocess.Popen[bytes]":
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        return started[-1]

    monkeypatch.setattr("lxmert.lab.sweep._start", start_slowly)
    plan = make_plan(one_stage(recipe, SweepRow(name="a")), tmp_path)

    def interrupt(status: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, jobs=1, changed=interrupt)
    assert started[0].poll() == -signal.SIGTERM


def test_the_command_refuses_before_any_run_and_reports_failures(
    tmp_path: Path,
    recipe: Path,
    lxmert: Command,
    programs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    path, output = tmp_path / "sweep.toml", tmp_path / "out"
    path.write_text(
        'title = "x"\nseeds = [1]\n[stages.pairs]\nmetric = "accuracy"\n'
        f'recipe = "{recipe}"\n[[rows]]\nname = "a"\n'
    )
    output.mkdir()
    lock = FolderLock(output)
    busy = lxmert("lab", "sweep", path, "-o", output)
    lock.close()
    assert busy.code == 2
    assert f"{output} is being written by another process" in busy.err
    (output / "report.md").write_text("notes")
    assert "would be overwritten" in lxmert("lab", "sweep", path, "-o", output).err
    (output / "report.md").unlink()
    done = lxmert("lab", "sweep", path, "-o", output)
    assert done.code == 3
    assert f"- `{output}/a/seed-1/pairs`: exit code 2: " in done.out
    assert (output / "report.md").read_text() in done.out
