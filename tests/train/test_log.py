"""What a run shows and writes: the bar, the log, TensorBoard with and without TensorBoard."""

import json
import logging
import sys
from io import StringIO

import pytest
from PIL import Image
from rich.console import Console
from toy import train_toy

from lxmert.train.log import RunLog


def scalars(folder):
    """Read what TensorBoard would show: steps and values by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_tensorboard_has_the_numbers_of_the_log(tmp_path):
    train_toy(tmp_path)
    found = scalars(tmp_path / "run" / "tensorboard")
    assert set(found) == {
        "loss", "value", "parity", "lr", "gradient_norm", "examples_per_second",
        "validation/score", "validation/draw",
    }  # fmt: skip
    losses = [(line["step"], line["losses"]["parity"]) for line in log(tmp_path / "run")
              if "losses" in line]  # fmt: skip
    assert found["parity"] == [(step, pytest.approx(loss)) for step, loss in losses]
    assert [step for step, _ in found["validation/score"]] == [6, 12, 18, 20]


def test_steps_that_are_repeated_after_an_interruption_are_shown_once(tmp_path):
    overrides = ("loop.log_every=1", "loop.checkpoint_every=4", "data.failing=7")
    with pytest.raises(FloatingPointError):
        train_toy(tmp_path, "optim.batch_size=1", *overrides)
    with pytest.raises(FloatingPointError):
        train_toy(tmp_path, "optim.batch_size=1", *overrides)
    steps = [step for step, _ in scalars(tmp_path / "run" / "tensorboard")["loss"]]
    assert len(steps) == len(set(steps)) > 3


def test_without_tensorboard_it_is_said_once_how_to_get_it(tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with caplog.at_level(logging.INFO):
        train_toy(tmp_path)
    assert caplog.text.count("pip install 'lxmert[tensorboard]'") == 1
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_the_end_of_a_run_draws_its_image(tmp_path):
    train_toy(tmp_path)
    with Image.open(tmp_path / "run" / "curve.png") as image:
        assert image.size == (1200, 460)


def test_the_bar_shows_losses_by_name_speed_and_time_left(tmp_path, monkeypatch):
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, force_interactive=True, width=140)
    monkeypatch.setattr("lxmert.train.log.Console", lambda **_: console)
    report = RunLog(tmp_path / "log.jsonl", total_steps=50, active=True)
    record = {"step": 5, "loss": 1.625, "losses": {"qa": 0.625, "attr": 8.5},
              "examples_per_second": 33.25, "seconds_left": 70.0}  # fmt: skip
    with report:
        for step in range(6):
            report.advance(step)
        report.training(record)
        report.evaluation({"step": 5, "metrics": {"overall": 0.375}, "best": True})
    shown = screen.getvalue()
    for text in ("5/50", "loss 1.6250", "qa 0.6250", "attr 8.5000", "33.2 examples/s", ":"):
        assert text in shown
    assert shown.count("evaluation  overall 0.3750  (best so far)") == 1
    assert log(tmp_path)[0] == record


def test_other_ranks_write_nothing(tmp_path):
    with RunLog(tmp_path / "log.jsonl", total_steps=5, active=False) as report:
        report.advance(3)
        report.training({"step": 5, "loss": 1.5, "losses": {}, "examples_per_second": 3.25,
                         "seconds_left": 0.0})  # fmt: skip
    assert list(tmp_path.iterdir()) == []
