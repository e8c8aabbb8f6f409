"""Several processes, forked or started by torchrun, do the same updates as one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ranks import NEEDS_FSDP, finish, start_ranks
from safetensors.torch import load_file
from torch.distributed.fsdp import FSDPModule
from toy import train_toy

from lxmert.train.sharding import Sharded

OVERRIDES = ("model.double=true", "loop.micro_batches=2")


@pytest.mark.long
def test_two_processes_give_the_same_update_as_one(programs, tmp_path):
    """In some steps one of the two has no target for `parity`, so its head has no gradient."""
    script, python = Path(__file__).with_name("toy.py"), str(programs / "python")
    command = [python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(script), str(tmp_path / "two"), *OVERRIDES],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHON_EXEC": python},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is finished after 20 steps") == 1
    train_toy(tmp_path / "one", *OVERRIDES)
    assert_same_weights(tmp_path / "one", tmp_path / "two")


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
@pytest.mark.parametrize(
    ("num_ranks", "parallel"),
    [
        pytest.param(2, "ddp", marks=pytest.mark.slow),
        (4, "ddp"),
        pytest.param(4, "fsdp", marks=NEEDS_FSDP),
    ],
)
def test_each_step_of_several_processes_is_that_of_one(tmp_path, num_ranks, parallel):
    """The weights after every fourth step; in some steps three of four lack a target."""
    overrides = (*OVERRIDES[:1], "loop.evaluate_every=4", "loop.log_every=1")
    train_toy(tmp_path / "one", *overrides)
    work, shared = tmp_path / "many", (*overrides, f"loop.parallel={parallel}")
    finish(start_ranks(lambda rank: train_toy(work, *shared), num_ranks))
    assert_same_weights(tmp_path / "one", work)
    one, many = ((tmp_path / name / "run/log.jsonl").read_text() for name in ("one", "many"))
    ours, theirs = ([json.loads(line) for line in text.splitlines()] for text in (many, one))
    assert len(ours) == len(theirs) == 25
    for line, other in zip(ours, theirs, strict=True):
        assert line["step"] == other["step"]
        assert line.get("losses", {}) == pytest.approx(other.get("losses", {}), rel=1e-6)
        scores = [one.get("metrics", {"score": 0.0})["score"] for one in (line, other)]
        assert scores[0] == pytest.approx(scores[1], rel=1e-9)


@pytest.mark.long
@NEEDS_FSDP
@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
def test_sharded_weights_without_gradient_do_not_decay(tmp_path):
    """`value` has no weight, so that most micro-batches have no loss at all on some rank."""
    overrides = (
        *OVERRIDES, "data.weights={value = 0.0, parity = 1.0}", "optim.weight_decay=0.5",
        "optim.name=bert-adam", "optim.warmup_steps=1",
    )  # fmt: skip
    train_toy(tmp_path / "one", *overrides)
    work, shared = tmp_path / "many", (*overrides, "loop.parallel=fsdp")
    finish(start_ranks(lambda rank: train_toy(work, *shared), 2))
    assert_same_weights(tmp_path / "one", work)


def test_a_pytorch_without_what_sharding_needs_is_refused(monkeypatch):
    monkeypatch.delattr(FSDPModule, "set_reduce_scatter_unused_params", raising=False)
    with pytest.raises(ValueError, match=r"or pass --set loop\.parallel=ddp"):
        Sharded(None, None)


def assert_same_weights(one, other):
    one, other = (load_file(folder / "run/model.safetensors") for folder in (one, other))
    for name in set(one) - {"calls"}:
        torch.testing.assert_close(other[name], one[name], rtol=1e-9, atol=1e-12)
