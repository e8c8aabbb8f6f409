"""The loop on one process: equal updates however a batch is cut, golden curve, what stops it."""

import json
import logging
import math

import pytest
import torch
from safetensors.torch import load_file
from toy import toy_recipe, toy_task, train_toy

from lxmert.train import loop
from lxmert.train.loop import train

GOLDEN = [
    1.380330, 0.437380, 1.561177, 0.727521, 0.774865,
    1.473601, 0.634042, 0.910978, 0.979320, 0.669405,
    0.913085, 0.491283, 0.576954, 0.797822, 0.904277,
    0.780755, 0.511768, 0.898168, 0.855929, 0.594296,
]  # fmt: skip
"""Loss of each of the 20 steps of the toy recipe, on a CPU."""


def weights(folder):
    return load_file(folder / "run" / "model.safetensors")


def log(folder):
    return [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]


def assert_same(one, other, tolerance):
    assert set(one) == set(other)
    for name in set(one) - {"calls"}:
        torch.testing.assert_close(one[name], other[name], rtol=tolerance, atol=tolerance)


@pytest.mark.long
@pytest.mark.parametrize("micro_batches", [2, 4, 8])
def test_micro_batches_give_the_same_update(tmp_path, micro_batches):
    """Single examples make the count of `parity` zero in most micro-batches."""
    train_toy(tmp_path / "one", "model.double=true")
    train_toy(tmp_path / "cut", "model.double=true", f"loop.micro_batches={micro_batches}")
    assert_same(weights(tmp_path / "one"), weights(tmp_path / "cut"), 1e-9)


@pytest.mark.parametrize("micro_batches", [1, 4])
def test_golden_curve(tmp_path, micro_batches):
    train_toy(tmp_path, "loop.log_every=1", f"loop.micro_batches={micro_batches}")
    losses = [line["loss"] for line in log(tmp_path) if "loss" in line]
    assert losses == pytest.approx(GOLDEN, rel=1e-4)


def test_workers_change_nothing(tmp_path):
    train_toy(tmp_path / "none", "model.dropout=0.25")
    train_toy(tmp_path / "two", "model.dropout=0.25", "loop.workers=2")
    assert_same(weights(tmp_path / "none"), weights(tmp_path / "two"), 0)


def test_a_step_matches_plain_pytorch(tmp_path):
    """The loss of a step is the weighted sum of the objectives' means over the full batch."""
    overrides = [
        "optim.steps=1",
        "optim.warmup_steps=0",
        "data.num_examples=8",
        "model.double=true",
    ]
    train_toy(tmp_path, *overrides)
    task = toy_task(toy_recipe(tmp_path, *overrides))
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=1e-2, eps=1e-6, weight_decay=0.01)
    for group in optimizer.param_groups:
        assert group["betas"] == (0.9, 0.999)
    batch = task.collate([(index, 0) for index in range(8)])
    losses = task.losses(task.model, batch)
    (losses["value"] / 8 + 0.5 * losses["parity"] / 2).backward()
    torch.nn.utils.clip_grad_norm_(task.model.parameters(), 1.0)
    before = {name: p.detach().clone() for name, p in task.model.named_parameters()}
    optimizer.step()
    trained = weights(tmp_path)
    for name, parameter in task.model.named_parameters():
        if parameter.ndim >= 2:
            torch.testing.assert_close(trained[name], parameter.detach(), rtol=1e-9, atol=1e-12)
        elif parameter.grad is not None:
            undecayed = parameter.detach() + 1e-2 * 0.01 * before[name]
            torch.testing.assert_close(trained[name], undecayed, rtol=1e-9, atol=1e-12)


def test_what_no_loss_reaches_stays_as_it_was(tmp_path):
    train_toy(tmp_path, "data.weights={value = 1.0, parity = 0.0}")
    start = toy_task(toy_recipe(tmp_path)).model.state_dict()
    trained = weights(tmp_path)
    for name in ("idle.weight", "idle.bias", "parity.weight", "parity.bias"):
        assert torch.equal(trained[name], start[name])
    assert not torch.equal(trained["value.weight"], start["value.weight"])


def test_a_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    overrides = ["data.failing=7", "loop.checkpoint_every=1", "loop.log_every=50"]
    with pytest.raises(FloatingPointError) as stopped:
        train_toy(tmp_path, *overrides)
    message = str(stopped.value)
    assert "losses value nan, parity 1." in message
    assert "gradient of norm nan" in message
    assert "expected finite numbers: lower optim.lr" in message
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    # Number 7 is drawn in the third step.
    assert message.startswith("step 3 ")
    assert kept == ["step-1", "step-2"]
    assert "step-2)" in message
    assert not (tmp_path / "run" / "finished.json").exists()


def test_a_nan_is_found_at_its_step_though_losses_are_read_later(tmp_path):
    messages = []
    for every in (1, 5):
        with pytest.raises(FloatingPointError) as stopped:
            train_toy(tmp_path / str(every), "data.failing=7", f"loop.log_every={every}")
        messages.append(str(stopped.value).split(" (")[0])
    assert messages[0] == messages[1]


def test_a_finished_run_says_so_and_does_nothing(tmp_path, caplog):
    metrics = train_toy(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    with caplog.at_level(logging.INFO):
        assert train_toy(tmp_path) == metrics
    assert "is finished: nothing to do" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


def test_another_recipe_in_the_same_folder_is_rejected(tmp_path):
    train_toy(tmp_path, "optim.steps=4")
    with pytest.raises(ValueError, match=r"optim.lr is 0.5; the run in .* started with 0.01"):
        train_toy(tmp_path, "optim.steps=4", "optim.lr=0.5")
    with pytest.raises(ValueError, match=r"optim.clip_norm is not set; .* with 1.0"):
        train_toy(tmp_path, "optim.steps=4", "optim.clip_norm=")
    assert train_toy(tmp_path, "optim.steps=4", "loop.workers=1", "loop.log_every=2")


def test_a_foreign_model_is_not_overwritten(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="has a model without a recipe"):
        train_toy(tmp_path)


def test_settings_that_do_not_fit_the_task_or_the_device_are_rejected(tmp_path):
    with pytest.raises(ValueError, match="ToyTask has 0 training examples"):
        train_toy(tmp_path / "empty", "data.num_examples=0")
    with pytest.raises(ValueError, match=r"warmup_steps is 3, .* run \(3\)"):
        train_toy(tmp_path / "short", "optim.steps=", "optim.epochs=1")
    with pytest.raises(ValueError, match="ToyNetwork has no layers that can be recomputed"):
        train_toy(tmp_path / "again", "loop.gradient_checkpointing=true")
    with pytest.raises(ValueError, match='precision is "fp16" on a CPU'):
        train_toy(tmp_path / "half", "loop.precision=fp16")


def test_bf16_learns_nearly_the_same_and_may_follow_another_precision(tmp_path):
    train_toy(tmp_path / "full")
    train_toy(tmp_path / "half", "loop.precision=bf16")
    trained = weights(tmp_path / "half")
    assert trained["body.weight"].dtype == torch.float32
    assert_same(weights(tmp_path / "full"), trained, 0.05)


def test_evaluation_restores_the_mode_of_every_module(tmp_path):
    recipe = toy_recipe(tmp_path)
    task = toy_task(recipe)
    modes = []

    def frozen_body(mode=True):
        torch.nn.Module.train(task.model, mode)
        task.model.body.training = False
        return task.model

    task.model.train = frozen_body
    task.model.register_forward_hook(
        lambda model, *_: modes.append((model.training, model.body.training))
    )
    train(recipe, task, tmp_path / "run", cpu=True)
    assert modes[0] == (True, False)
    assert modes[-1] == (False, False)
    assert set(modes) == {(True, False), (False, False)}


def test_the_best_weights_are_those_of_the_best_evaluation(tmp_path):
    train_toy(tmp_path, "optim.lr=0.5", "loop.evaluate_every=1", "optim.clip_norm=")
    evaluations = [line for line in log(tmp_path) if "metrics" in line]
    assert [line["step"] for line in evaluations] == list(range(1, 21))
    best = max(evaluations, key=lambda line: line["metrics"]["score"])
    assert [line["best"] for line in evaluations].count(True) < 20
    task = toy_task(toy_recipe(tmp_path))
    task.model.load_state_dict(load_file(tmp_path / "run" / "best" / "model.safetensors"))
    task.model.eval()
    assert task.evaluate(device="cpu")["score"] == pytest.approx(best["metrics"]["score"])
    final = load_file(tmp_path / "run" / "model.safetensors")
    for name, value in load_file(tmp_path / "run" / "best" / "model.safetensors").items():
        assert torch.equal(final[name], value)
    finished = json.loads((tmp_path / "run" / "finished.json").read_text())
    assert finished["metrics"] == best["metrics"]


def test_the_plateau_schedule_ends_a_run_that_no_longer_improves(tmp_path):
    """The rate falls over 3 of 10 steps once two evaluations in a row are no better."""
    given = ("optim.steps=200", "optim.schedule=plateau", "optim.patience=2", "optim.lr=0.5")
    train_toy(tmp_path, *given, "loop.evaluate_every=1", "loop.log_every=1", "optim.clip_norm=")
    lines = log(tmp_path)
    bests = [line["best"] for line in lines if "metrics" in line]
    over = next(n for n in range(2, len(bests)) if not any(bests[n - 1 : n + 1])) + 1
    total = math.ceil(over / 0.7)
    assert len(bests) == total < 200
    rates = [line["lr"] for line in lines if "lr" in line]
    assert rates[over - 1] == 0.5
    assert rates[-1] == pytest.approx(0.5 * (1 / total) / 0.3)


def test_a_checkpoint_is_written_by_the_clock(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_CHECKPOINT_SECONDS", 0)
    saved = []
    monkeypatch.setattr(loop, "_save", lambda run: saved.append(run.progress.step))
    train_toy(tmp_path, "loop.checkpoint_every=1000", "optim.steps=5")
    assert saved == [1, 2, 3, 4, 5]


def test_without_evaluate_every_there_is_one_evaluation_and_no_best_folder(tmp_path):
    train_toy(tmp_path, "loop.evaluate_every=")
    assert [line["step"] for line in log(tmp_path) if "metrics" in line] == [20]
    assert not (tmp_path / "run" / "best").exists()


def test_the_log_holds_what_its_docstring_says(tmp_path):
    train_toy(tmp_path)
    training = [line for line in log(tmp_path) if "loss" in line]
    assert [line["step"] for line in training] == [5, 10, 15, 20]
    for line in training:
        assert set(line) == {
            "step", "epoch", "lr", "loss", "losses", "gradient_norm",
            "examples_per_second", "seconds_left",
        }  # fmt: skip
        value, parity = line["losses"]["value"], line["losses"]["parity"]
        assert line["loss"] == pytest.approx(value + 0.5 * parity)


def test_versions_and_recipe_are_saved_with_the_run_and_its_checkpoints(tmp_path):
    train_toy(tmp_path)
    versions = json.loads((tmp_path / "run" / "versions.json").read_text())
    assert set(versions) == {"lxmert", "torch", "transformers", "accelerate", "python", "commit"}
    manifest = json.loads((tmp_path / "run/checkpoints/step-20/manifest.json").read_text())
    assert manifest["versions"] == versions
    assert manifest["recipe"]["optim"]["lr"] == 0.01


def test_start_at_delays_an_objective_without_changing_the_learning_rate(tmp_path):
    """Before that it is a run without it, seen and counted, but without weight."""
    late = train_toy(tmp_path / "late", "optim.start_at.parity=0.5", "loop.checkpoint_every=10")
    assert late["score"] < 0
    train_toy(
        tmp_path / "never", "data.weights={value = 1.0, parity = 0.0}", "loop.checkpoint_every=10"
    )
    half = [tmp_path / name / "run/checkpoints/step-10/model.safetensors" for name in
            ("late", "never")]  # fmt: skip
    first, other = map(load_file, half)
    assert_same(first, other, 0)
    start = toy_task(toy_recipe(tmp_path)).model.state_dict()
    assert torch.equal(first["parity.weight"], start["parity.weight"])
    assert not torch.equal(weights(tmp_path / "late")["parity.weight"], first["parity.weight"])
    lines = [line for line in log(tmp_path / "late") if "loss" in line]
    for line in lines:
        parity = 0.5 * line["losses"]["parity"] if line["step"] > 10 else 0
        assert line["loss"] == pytest.approx(line["losses"]["value"] + parity)
    usual = [line["lr"] for line in log(tmp_path / "never") if "loss" in line]
    assert [line["lr"] for line in lines] == usual


def test_an_unknown_objective_in_start_at_is_rejected(tmp_path):
    with pytest.raises(
        ValueError, match=r"optim\.start_at: values is unknown.*did you mean 'value'"
    ):
        train_toy(tmp_path, "optim.start_at.values=0.5")
