"""Ablations: which runs are made, how their scores become tables and plots, what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lxmert.lab.ablation import (
    Ablation,
    Plan,
    Row,
    Stage,
    check_inputs,
    check_plan,
    collect,
    make_plan,
    read_ablation,
)
from lxmert.lab.ablation_report import (
    as_markdown,
    check_report,
    draw_report,
    summarize,
    write_report,
)
from lxmert.tasks.registry import TASKS
from lxmert.train.settings import read_recipe, recipe_text

STAGES = {
    "text": Stage("pre.toml", ("model.x_layers=0",), is_output="language"),
    "pretraining": Stage("pre.toml", ("optim.steps=7",)),
    "answering": Stage("ask.toml", metric="overall", paper=("VQA", "GQA")),
    "pairs": Stage("pairs.toml", metric="accuracy", paper=("NLVR2",)),
}
ROWS = (
    Row("Pretrained", ("pretraining",), paper={"VQA": 69.9, "NLVR2": 74.9}),
    Row("Pretrained, few questions", ("pretraining",), {"answering": ("data.limit=9",)}),
    Row("From language", ("text", "pretraining")),
    Row("From scratch", paper={"VQA": 65.1}),
)


def make(rows: tuple[Row, ...] = ROWS, seeds: tuple[int, ...] = (3, 8)) -> Ablation:
    """Compare rows; only stages that one of them goes through are there."""
    used = {name for row in rows for name in row.start}
    stages = {name: stage for name, stage in STAGES.items() if stage.metric or name in used}
    return Ablation("Small", seeds, stages, rows)


def finish(folder: Path, metrics: dict[str, float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "finished.json").write_text(json.dumps({"steps": 1, "metrics": metrics}))


def test_a_run_that_rows_share_is_made_once_for_each_seed() -> None:
    plan = make_plan(make(), Path("out"))
    assert len(plan) == 2 * (3 + 3 + 4 + 2)
    shared = plan["Pretrained", 3, "pretraining"]
    assert plan["Pretrained, few questions", 3, "pretraining"] is shared
    assert plan["Pretrained, few questions", 3, "pairs"] is plan["Pretrained", 3, "pairs"]
    assert plan["Pretrained", 8, "pretraining"] is not shared
    assert len(set(plan.values())) == 2 * (3 + 1 + 4 + 2)
    assert shared.folder == Path("out/pretrained/seed-3/pretraining")


def test_stages_follow_each_other_and_the_row_has_the_last_word() -> None:
    plan = make_plan(make(), Path("out"))
    scratch, few = (
        plan["From scratch", 3, "answering"],
        plan["Pretrained, few questions", 3, "answering"],
    )
    assert scratch.overrides == ("model.init_from=", "seed=3")
    start = "out/pretrained/seed-3/pretraining"
    assert few.overrides == (f"model.init_from={start}", "seed=3", "data.limit=9")
    first = plan["From language", 8, "text"]
    assert first.start is None
    second = plan["From language", 8, "pretraining"]
    assert second.start is first
    assert second.overrides[1] == f"model.init_from={first.folder}/language-side"
    assert plan["From language", 8, "pairs"].start is second


def test_changes_of_all_stages_come_first() -> None:
    plan = make_plan(replace(make(), set=("optim.steps=9",)), Path("out"))
    assert plan["Pretrained", 3, "pretraining"].overrides[:2] == ("optim.steps=9", "optim.steps=7")
    assert plan["From scratch", 3, "pairs"].overrides[0] == "optim.steps=9"


def test_the_table_has_mean_and_spread_beside_the_papers_scores(tmp_path: Path) -> None:
    ablation = make()
    plan = make_plan(ablation, tmp_path)
    finish(plan["Pretrained", 3, "answering"].folder, {"overall": 0.5, "color": 0.9})
    finish(plan["Pretrained", 8, "answering"].folder, {"overall": 0.6, "color": 0.7})
    finish(plan["From scratch", 8, "pairs"].folder, {"accuracy": 0.25})
    metrics = collect(ablation, plan)
    lines = as_markdown(ablation, metrics, failed={}).splitlines()
    # Of 50 and 60, the sample standard deviation is 10 / sqrt(2).
    assert "| Pretrained | 55.0 ± 7.1 |  | 69.9 |  | 74.9 |" in lines
    assert "| From scratch |  | 25.0 (1) | 65.1 |  |  |" in lines
    assert "| Pretrained, few questions |  |  |  |  |  |" in lines
    titles = ["here: answering (overall)", "here: pairs (accuracy)", "paper: VQA", "paper: GQA"]
    assert f"| row | {' | '.join(titles)} | paper: NLVR2 |" in lines
    write_report(ablation, metrics, tmp_path, failed={})
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["seeds"] == [3, 8]
    assert report["compared"] == {"answering": "overall", "pairs": "accuracy"}
    assert report["rows"][0]["metrics"]["answering"]["8"] == {"overall": 0.6, "color": 0.7}
    score = report["rows"][0]["scores"]["answering"]
    assert score == {"mean": pytest.approx(0.55), "deviation": pytest.approx(0.005**0.5), "runs": 2}
    assert report["rows"][3]["scores"]["answering"] is None
    assert (tmp_path / "report.md").read_text().splitlines() == lines


def test_a_learning_curve_has_every_score(tmp_path: Path) -> None:
    rows = tuple(
        Row(f"{line} {at}", ("pretraining",) if line == "with" else (), line=line, at=at)
        for at in (100, 1000)
        for line in ("with", "without")
    )
    ablation = make(rows)
    plan = make_plan(ablation, tmp_path)
    for (_, seed, stage), run in plan.items():
        score = {"overall": 0.4 + 0.01 * seed, "count": 0.3} if stage == "answering" else {}
        finish(run.folder, score | ({"accuracy": 0.5} if stage == "pairs" else {}))
    metrics = collect(ablation, plan)
    text = as_markdown(ablation, metrics, failed={})
    assert "## answering, score by score" in text
    assert "| with 100 | 45.5 ± 3.5 | 30.0 ± 0.0 |" in text
    draw_report(ablation, metrics, tmp_path / "curve.png")
    pixels = np.asarray(Image.open(tmp_path / "curve.png").convert("RGB")).astype(int)
    for color in ((31, 119, 180), (255, 127, 14)):  # matplotlib's first two lines
        assert (np.abs(pixels - color).max(axis=2) < 12).sum() > 50


def test_dots_stand_where_the_scores_are(tmp_path: Path) -> None:
    """Bars from an axis that was cut off made a small difference look like a large one."""
    rows = tuple(Row(name, set={"pairs": (f"data.limit={name}",)}) for name in "789")
    stages = {"pairs": Stage("pairs.toml", metric="accuracy")}
    ablation = Ablation("Small", (3, 8), stages, rows)
    plan = make_plan(ablation, tmp_path)
    for row, score in zip(rows, (0.8, 0.7, 0.5), strict=True):
        for seed in ablation.seeds:
            finish(plan[row.name, seed, "pairs"].folder, {"accuracy": score})
    draw_report(ablation, collect(ablation, plan), tmp_path / "dots.png")
    pixels = np.asarray(Image.open(tmp_path / "dots.png").convert("RGB")).astype(int)
    ours = np.abs(pixels - (0x3A, 0x6E, 0xC8)).max(axis=2) < 12
    lines = [np.flatnonzero(line) for line in ours if line.any()]
    dots = [line for line in lines if len(line) >= 9 and np.ptp(line) == len(line) - 1]
    first, second, third = dict.fromkeys(int(line.mean()) for line in dots)  # from the top
    assert (first - third) / (first - second) == pytest.approx(3, abs=0.1)


def test_one_value_has_no_spread() -> None:
    assert summarize([0.25]) == (0.25, 0.0)


def test_a_bar_in_a_name_does_not_move_the_scores(tmp_path: Path) -> None:
    """They stood in the columns of other stages, those of one under "paper"."""
    ablation = make((Row("lr | high"),), seeds=(3,))
    plan = make_plan(ablation, tmp_path)
    finish(plan["lr | high", 3, "pairs"].folder, {"accuracy": 0.5})
    text = as_markdown(ablation, collect(ablation, plan), failed={})
    assert r"| lr \| high |  | 50.0 |  |  |  |" in text.splitlines()
    assert "Scores with the seed 3, in percent." in text


def test_names_that_break_a_table_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'a\\nb' has a line break or another control charact"):
        make((Row("a\nb"),))
    with pytest.raises(ValueError, match=r"'x\\r' has a line break"):
        replace(make(), title="x\r")
    make((Row("no\N{NO-BREAK SPACE}break"),))


@pytest.mark.parametrize(
    ("name", "content"),
    [("report.md", "my notes"), ("report.json", "[1]"), ("report.json", '{"title": "Other"}')],
)
def test_the_report_of_something_else_is_not_overwritten(
    tmp_path: Path, name: str, content: str
) -> None:
    """Notes, or the table of another comparison, were replaced without a word."""
    ablation = make()
    check_report(ablation, tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match="a report that is not about 'Small' and would be overwr"):
        check_report(ablation, tmp_path)
    write_report(ablation, collect(ablation, make_plan(ablation, tmp_path)), tmp_path, failed={})
    check_report(ablation, tmp_path)


def test_a_failed_run_is_listed_with_its_reason(tmp_path: Path) -> None:
    """It left an empty cell, as one that is still to come does."""
    ablation = make((ROWS[3],))
    plan = make_plan(ablation, Path("out"))
    failed = {plan["From scratch", 8, "pairs"]: "OSError: it is gone"}
    write_report(ablation, collect(ablation, plan), tmp_path, failed=failed)
    folder = "out/from-scratch/seed-8/pairs"
    assert json.loads((tmp_path / "report.json").read_text())["failed"] == {
        folder: "OSError: it is gone"
    }
    text = (tmp_path / "report.md").read_text()
    assert text.endswith(f"## Runs that failed\n\n- `{folder}`: OSError: it is gone\n")


def test_rows_that_learn_from_different_examples_guess_differently(tmp_path: Path) -> None:
    """One mean stood over a whole learning curve, though what is guessed is learned as well."""
    rows = tuple(
        Row(f"{at}", set={"answering": (f"data.limit={at}",)}, line="all", at=at) for at in (10, 90)
    )
    ablation = make(rows)
    plan = make_plan(ablation, tmp_path)
    for (row, seed, stage), run in plan.items():
        predict = 0.3 + 0.01 * seed + 0.001 * int(row)
        scores = {"overall": 0.9, "question_only": predict, "majority": 0.2}
        finish(run.folder, scores if stage == "answering" else {"accuracy": 0.7, "majority": 0.5})
    text = as_markdown(ablation, collect(ablation, plan), failed={})
    assert "the images get: answering 36.5 to 44.5, pairs 50.0.\n" in text


def test_only_shares_are_in_percent(tmp_path: Path) -> None:
    """A count of 600 images was shown as 60000.0, and an error of 1.25 as 125.0."""
    stages = {"retrieval": Stage("rank.toml", metric="error")}
    rows = (Row("a", line="x", at=3), Row("b", line="x", at=5))
    ablation = Ablation("Small", (3, 8), stages, rows)
    plan = make_plan(ablation, tmp_path)
    for seed, error in ((3, 0.25), (8, 1.25)):
        scores = {"error": error, "images": 600, "recall": 0.5, "feat_error": 0.125}
        finish(plan["a", seed, "retrieval"].folder, scores)
    metrics = collect(ablation, plan)
    text = as_markdown(ablation, metrics, failed={})
    assert "| a | 0.75 ± 0.7071 |\n" in text
    assert "| a | 0.75 ± 0.7071 | 600 ± 0 | 50.0 ± 0.0 | 0.125 ± 0 |\n" in text
    assert "\nAs they are, not in percent: error, images, feat_error.\n" in text
    assert "Mean and sample standard deviation over the seeds 3, 8, in percent." in text
    draw_report(ablation, metrics, tmp_path / "curve.svg")
    drawn = (tmp_path / "curve.svg").read_text()
    assert ">retrieval: recall (%)<" in drawn
    assert ">retrieval: images<" in drawn


def test_rows_share_no_run_that_hands_over_something_else(tmp_path: Path) -> None:
    """A row that asked for the whole model started from the language side of another one's."""
    stages = {
        "whole": Stage("pre.toml"),
        "language": Stage("pre.toml", is_output="language"),
        "pairs": Stage("pairs.toml", metric="accuracy"),
    }
    rows = (Row("a", ("language",)), Row("b", ("whole",)))
    plan = make_plan(Ablation("Small", (3,), stages, rows), tmp_path)
    whole = plan["b", 3, "whole"]
    assert whole.output == whole.folder == tmp_path / "b/seed-3/whole"
    assert f"model.init_from={whole.folder}" in plan["b", 3, "pairs"].overrides


def test_runs_start_from_the_same_path_however_the_folder_is_spelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command with the whole path was refused, as `model.init_from` differed."""
    monkeypatch.chdir(tmp_path)
    assert make_plan(make(), tmp_path / "out") == make_plan(make(), Path("out"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((Row("a", ("pretrainign",)),), "pretrainign is unknown.*did you mean pretraining"),
        ((Row("a", set={"asking": ()}),), "asking is unknown"),
        ((Row("A b"), Row("a-b")), "the rows 'A b' and 'a-b' would share the folder a-b"),
        ((Row("¿?"),), "the row '¿\\?' needs a letter a-z or a digit in its name"),
        ((Row("a", ("text", "text")),), "row 'a': two times the same stage of start, 'text'"),
        ((), "0 rows"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused(rows: tuple[Row, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ablation("Small", (3,), STAGES, rows)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Row("a", set={"pretraining": ("optim.steps=9",)}), "changes pretraining, which is not in"),
        (Row("a", paper={"VQ": 65.1}), "VQ is unknown; expected one of VQA, GQA, NLVR2"),
        (Row("a", ("answering",)), "start names answering, which has a metric"),
        (
            Row("a", set={"pairs": ("model.init_from=x",)}),
            "row 'a': set changes model.init_from.*use start",
        ),
        (Row("a", set={"pairs": ("seed =7",)}), "row 'a': set changes seed, .* use seeds"),
    ],
)
def test_what_would_be_left_out_silently_is_refused(row: Row, message: str) -> None:
    """Such rows were trained without the change or the score that they name, or in one folder.

    With a seed of its own, a row was trained with that one as often as there were seeds.
    """
    with pytest.raises(ValueError, match=message):
        Ablation("Small", (3,), STAGES, (row,))


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"Text!": Stage("p.toml"), "text": Stage("p.toml")}, "stages 'text' and 'Text!' would sh"),
        ({"!": Stage("p.toml")}, "the stage '!' needs a letter"),
        ({"text": Stage("p.toml", paper=("GLUE",))}, "stage 'text': paper is GLUE, .* no metric"),
        ({"txt": Stage("p.toml")}, "stage 'txt': no row goes through it"),
        ({"text": Stage("p.toml", ("seed=1",))}, "stage 'text': set changes seed"),
    ],
)
def test_a_stage_that_is_of_no_use_is_refused(stages: dict[str, Stage], message: str) -> None:
    """Such stages were left out without a word, or trained in the folder of another one."""
    with pytest.raises(ValueError, match=message):
        Ablation("Small", (3,), STAGES | stages, (Row("a", ("text", "pretraining")),))


def test_no_change_of_all_stages_is_undone_by_the_comparison() -> None:
    """It was overridden without a word."""
    with pytest.raises(ValueError, match=r"set changes model\.init_from, .* use start"):
        replace(make(), set=("model.init_from=runs/x",))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((Row("a", line="x", at=9), Row("b")), "row 'b' has the line '' at 0"),
        ((Row("a", line="x"),), "row 'a' has the line 'x' at 0: .* needs a line, and at, which is"),
        ((Row("a", at=9),), "row 'a' has the line '' at 9"),
        ((Row("a", line="x", at=9), Row("b", line="x", at=9)), r"same line and at, \('x', 9\)"),
    ],
)
def test_rows_without_a_place_in_the_curves_are_refused(
    rows: tuple[Row, ...], message: str
) -> None:
    """They were drawn at 0 of a logarithmic axis, or not at all."""
    with pytest.raises(ValueError, match=message):
        make(rows)


def test_a_metric_that_no_run_has_is_named(tmp_path: Path) -> None:
    """It ended in a KeyError once the first run was finished."""
    plan = make_plan(make(), tmp_path)
    finish(plan["From scratch", 3, "pairs"].folder, {"acc": 0.5, "majority": 0.5})
    with pytest.raises(ValueError, match=r"stages\.pairs\.metric: accuracy is unknown.*mean acc\?"):
        collect(make(), plan)


def test_a_seed_counts_once() -> None:
    """The runs of a seed that was listed twice were one, and halved the spread."""
    with pytest.raises(ValueError, match="two times the same seed, 3"):
        make(seeds=(3, 8, 3))


def test_a_finished_run_of_another_recipe_is_refused(tmp_path: Path) -> None:
    """Its score stood in the table of the changed comparison."""
    recipe = tmp_path / "toy.toml"
    recipe.write_text(
        'task = "pairs"\n[data]\ntrain = "t"\nvalid = "v"\nregions = "r"\nvalid_regions = "w"\n'
        "[optim]\nlr = 1.0\nbatch_size = 1\nsteps = 5\n"
    )

    def planned(steps: int) -> Plan:
        stages = {"pairs": Stage(str(recipe), (f"optim.steps={steps}",), metric="accuracy")}
        return make_plan(Ablation("x", (1,), stages, (Row("a"),)), tmp_path)

    (run,) = planned(5).values()
    finish(run.folder, {"accuracy": 0.5})
    (run.folder / "recipe.toml").write_text(recipe_text(run.read()))
    check_plan(planned(5))
    with pytest.raises(ValueError, match=r"a/seed-1/pairs: optim.steps is 6; the run in"):
        check_plan(planned(6))


def test_missing_files_show_before_the_first_run(tmp_path: Path) -> None:
    """They showed when all that a run starts from was trained."""
    recipe = tmp_path / "pairs.toml"
    recipe.write_text(
        f'task = "pairs"\n[data]\ntrain = ["{tmp_path}/a", "{tmp_path}/b"]\n'
        f'valid = "{tmp_path}/a"\nregions = "{tmp_path}"\nvalid_regions = "{tmp_path}"\n'
        "[optim]\nlr = 1.0\nbatch_size = 1\nsteps = 5\n"
    )
    stages = {"first": Stage(str(recipe)), "second": Stage(str(recipe), metric="accuracy")}
    rows = (Row("x", ("first",)), Row("y", ("first",), {"second": ("model.tokenizer=none.txt",)}))
    plan = make_plan(Ablation("x", (1,), stages, rows), tmp_path)
    (tmp_path / "a").touch()
    with pytest.raises(FileNotFoundError, match=r"x/seed-1/first: data\.train is .*/b, which is"):
        check_inputs(plan)
    (tmp_path / "b").touch()
    with pytest.raises(FileNotFoundError, match=r"y/seed-1/second: model\.tokenizer is none"):
        check_inputs(plan)
    finish(plan["y", 1, "second"].folder, {"accuracy": 0.5})
    check_inputs(plan)  # what a finished run was made from may be gone; a start is yet to be made


def test_rows_that_are_the_same_are_refused(tmp_path: Path) -> None:
    """A forgotten `set` gave two equal numbers, which look like a finding."""
    recipe = tmp_path / "toy.toml"
    recipe.write_text(
        'task = "pairs"\n[data]\ntrain = "t"\nvalid = "v"\nregions = "r"\nvalid_regions = "w"\n'
        "[optim]\nlr = 1.0\nbatch_size = 1\nsteps = 5\n"
    )
    stages = {"pairs": Stage(str(recipe), metric="accuracy")}
    longer = Row("longer", set={"pairs": ("optim.steps=6",)})
    check_plan(make_plan(Ablation("x", (1, 2), stages, (Row("a"), longer)), tmp_path))
    with pytest.raises(ValueError, match="the rows 'a' and 'b' are the same: let one set"):
        check_plan(make_plan(Ablation("x", (1, 2), stages, (Row("a"), longer, Row("b"))), tmp_path))


def test_rows_that_are_no_better_than_guesses_are_named(tmp_path: Path) -> None:
    ablation = make(ROWS[1:], seeds=(3,))
    plan = make_plan(ablation, tmp_path)
    for row, score in zip(ablation.rows, (0.5, 0.6, 0.7), strict=True):
        metrics = {"overall": score, "majority": 0.2, "question_only": 0.6}
        finish(plan[row.name, 3, "answering"].folder, metrics)
    text = as_markdown(ablation, collect(ablation, plan), failed={})
    reported = f"{ROWS[1].name} (answering); {ROWS[2].name} (answering)"
    assert f"get: answering 60.0. No more than that is reached by: {reported}.\n" in text


def test_recipes_of_the_other_command_are_reported(tmp_path: Path) -> None:
    """`train` advised to write a task into an ablation."""
    path = tmp_path / "x.toml"
    path.write_text("[stages.pairs]\n")
    with pytest.raises(ValueError, match="stages is a table of an ablation: use lxmert ablate"):
        read_recipe(path, TASKS)
    path.write_text('task = "pairs"\n')
    with pytest.raises(ValueError, match=r"x\.toml is a recipe of one run: use lxmert train"):
        read_ablation(path)


def test_an_ablation_is_laid_over_its_base(tmp_path: Path) -> None:
    (tmp_path / "common.toml").write_text(
        'seeds = [1, 2]\nset = ["optim.steps=9"]\n'
        '[stages.pairs]\nrecipe = "pairs.toml"\nmetric = "accuracy"\nset = ["optim.lr=1"]\n'
    )
    path = tmp_path / "own.toml"
    path.write_text(
        'base = "common.toml"\ntitle = "Own"\nseeds = [3]\n'
        '[stages.pairs]\nset = ["optim.lr=2"]\n[[rows]]\nname = "a"\n'
    )
    stages = {"pairs": Stage("pairs.toml", ("optim.lr=2",), "accuracy")}
    expected = Ablation("Own", (3,), stages, (Row("a"),), ("optim.steps=9",))
    assert read_ablation(path) == expected


def test_mistakes_in_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "ablation.toml"
    with pytest.raises(FileNotFoundError, match="is no file"):
        read_ablation(path)
    path.write_text('title = "x"\nseeds = [1]\nrow = []\n')
    with pytest.raises(ValueError, match=r"row is unknown.*did you mean rows"):
        read_ablation(path)
    path.write_text("title = x")
    with pytest.raises(ValueError, match="is no TOML"):
        read_ablation(path)
    path.write_text('base = "absent.toml"\n')
    with pytest.raises(FileNotFoundError, match=r"base of .*ablation.toml: .*absent.toml is no"):
        read_ablation(path)
    recipe = tmp_path / "pairs.toml"
    recipe.write_text('task = "pairs"\n[optim]\nlr = 1.0\nbatch_size = 1\nsteps = 1\n')
    stages = {"pairs": Stage(str(recipe), ("optim.lrate=2",), metric="accuracy")}
    plan = make_plan(Ablation("x", (1,), stages, (Row("a"),)), tmp_path)
    with pytest.raises(ValueError, match=r"a/seed-1/pairs: .*optim\.lrate"):
        check_plan(plan)
