"""Two processes started by torchrun do the same updates as one."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from toy import train_toy

OVERRIDES = ("model.double=true", "loop.micro_batches=2")


def test_two_processes_give_the_same_update_as_one(tmp_path):
    """In some steps one of the two has no target for `parity`, so its head has no gradient."""
    script = Path(__file__).with_name("toy.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(script), str(tmp_path / "two"), *OVERRIDES],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is finished after 20 steps") == 1
    train_toy(tmp_path / "one", *OVERRIDES)
    one, two = (load_file(tmp_path / name / "run/model.safetensors") for name in ("one", "two"))
    for name in set(one) - {"calls"}:
        torch.testing.assert_close(one[name], two[name], rtol=1e-9, atol=1e-12)
