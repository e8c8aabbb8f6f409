"""Which run of an ablation begins when, what its failure costs, and what is reported meanwhile."""

import multiprocessing
import time
from pathlib import Path

import pytest
from test_ablation import ROWS, finish, make

from lxmert.lab import ablation_runs
from lxmert.lab.ablation import Ablation, Row, Run, Stage, collect, make_plan
from lxmert.lab.ablation_runs import Standing, run_plan


def standing_of(rows: tuple[Row, ...]) -> tuple[Standing, dict[str, Run]]:
    """Return the standing of a comparison with one seed, and its runs by row and stage."""
    plan = make_plan(make(rows, seeds=(3,)), Path("out"))
    runs = {f"{row} {stage}": run for (row, _, stage), run in plan.items()}
    return Standing(left=list(dict.fromkeys(plan.values()))), runs


def test_a_run_begins_as_soon_as_what_it_starts_from_is_finished() -> None:
    """The runs that became ready waited until all that had begun with it were finished."""
    standing, runs = standing_of((ROWS[2], ROWS[3]))
    text, scratch = runs["From language text"], runs["From scratch answering"]
    begun = []
    for _ in range(2):
        run = standing.next_run()
        assert run is not None
        standing.begin(run)
        begun.append(run)
    assert begun == [text, scratch]
    standing.end(text, "")
    assert standing.next_run() is runs["From language pretraining"]
    assert list(standing.running) == [scratch]
    standing.begin(runs["From language pretraining"])
    assert standing.next_run() is runs["From scratch pairs"]


def test_what_starts_from_a_failed_run_is_given_up_and_nothing_else() -> None:
    standing, runs = standing_of((ROWS[2], ROWS[3]))
    text = runs["From language text"]
    standing.begin(text)
    standing.end(text, "FloatingPointError: step 31 has losses nan")
    assert {run.folder.name for run in standing.failed} == {
        "text", "pretraining", "answering", "pairs"
    }  # fmt: skip
    assert standing.failed[text] == "FloatingPointError: step 31 has losses nan"
    chained = standing.failed[runs["From language pairs"]]
    assert chained == "it starts from out/from-language/seed-3/pretraining, which failed"
    assert standing.left == [runs["From scratch answering"], runs["From scratch pairs"]]
    assert standing.reported() == "0 of 6 runs done, 4 failed, 2 to come"


def test_the_time_left_is_that_of_runs_of_the_same_stage() -> None:
    standing, runs = standing_of((ROWS[0], ROWS[3]))
    standing.done = [standing.left.pop(0)]
    assert "left" not in standing.reported()
    standing.seconds = {"pretraining": [300.0], "answering": [50.0, 70.0]}
    standing.begin(runs["From scratch answering"])
    # The pairs are of no stage that is known: 140 seconds each, the mean of all three runs.
    assert standing.reported() == (
        "1 of 5 runs done, 3 to come, running: from-scratch/seed-3/answering, about 0:06:40 left"
    )


def test_only_what_is_not_finished_is_trained(tmp_path: Path) -> None:
    ablation = make(rows=(ROWS[3],))
    plan = make_plan(ablation, tmp_path)
    for run in plan.values():
        finish(run.folder, {"overall": 0.5, "accuracy": 0.75})
    reported: list[str] = []
    assert (
        run_plan(plan, jobs=2, changed=lambda standing: reported.append(standing.reported())) == {}
    )
    assert reported == ["4 of 4 runs done, 0 to come"]
    metrics = collect(ablation, plan)
    scores = {"overall": 0.5, "accuracy": 0.75}
    assert metrics["From scratch"]["pairs"] == {3: scores, 8: scores}


def test_a_run_that_fails_is_reported_and_its_log_has_the_whole_story(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first failure ended everything, or was reported after hours, and logs stayed empty."""
    recipe = tmp_path / "pairs.toml"
    recipe.write_text(
        'task = "pairs"\n[data]\ntrain = "none.jsonl"\nvalid = "none.jsonl"\nregions = "none"\n'
        'valid_regions = "none"\n[optim]\nlr = 1.0\nbatch_size = 1\nsteps = 1\n'
    )
    stages = {"pairs": Stage(str(recipe), metric="accuracy")}
    plan = make_plan(Ablation("x", (1, 2), stages, (Row("a"),)), tmp_path)
    failed = run_plan(plan, jobs=1, changed=lambda standing: None)
    assert [run.folder for run in failed] == [tmp_path / f"a/seed-{seed}/pairs" for seed in (1, 2)]
    assert all("FileNotFoundError: none" in why and "\n" not in why for why in failed.values())
    assert "Traceback" in (tmp_path / "a/seed-1/pairs.log").read_text()
    assert capfd.readouterr().err == "", "the terminal is for the standing"


def test_an_interruption_does_not_wait_for_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With SIGINT for its process alone, a run of an hour was trained to its end."""
    monkeypatch.setattr(ablation_runs, "_train_apart", train_slowly)
    plan = make_plan(make(rows=(ROWS[3],)), tmp_path)

    def interrupt(standing: Standing) -> None:
        raise KeyboardInterrupt

    bystander = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(0.1,))
    bystander.start()
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, jobs=1, changed=interrupt)
    assert list(tmp_path.iterdir()) == []
    bystander.join()
    assert bystander.exitcode == 0, "processes of others go on"


def train_slowly(run: Run) -> str:
    """Take half a minute; a spawned process finds this by its name."""
    time.sleep(30)
    run.folder.mkdir(parents=True)
    return ""


@pytest.mark.parametrize("jobs", [0, -1])
def test_at_least_one_job_is_needed(jobs: int) -> None:
    with pytest.raises(ValueError, match="max_workers"):
        run_plan({}, jobs=jobs, changed=lambda standing: None)
