"""The pooled heads under plain DistributedDataParallel, in two real processes."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import torch
from torch.distributed import destroy_process_group, get_rank, init_process_group
from torch.nn.parallel import DistributedDataParallel
from tests.model import tiny

torch.set_num_threads(1)
init_process_group("gloo")
for name in ("LxmertForQuestionAnswering", tiny.PAIRS, tiny.MATCHING):
    model = tiny.build(name)
    given = tiny.inputs_for(name) | tiny.labels_for(name)
    rows = torch.tensor([[0], [2]][get_rank()])
    alone = tiny.build(name)
    both = torch.tensor([0, 2])
    alone(**{key: value[both] for key, value in given.items()}).loss.backward()
    parallel = DistributedDataParallel(model)  # no search for unused parameters
    for step in range(2):  # the second step is the one that finds a gradient missing
        model.zero_grad()
        parallel(**{key: value[rows] for key, value in given.items()}).loss.backward()
    for key, parameter in model.named_parameters():
        expected = alone.get_parameter(key).grad
        assert (parameter.grad is None) == (expected is None), key
        if expected is not None:
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)
    print(name, "equal", flush=True)
destroy_process_group()
"""


def test_plain_data_parallel_trains_the_pooled_heads(tmp_path):
    """C5: training failed unless DistributedDataParallel searched for unused parameters."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    result = subprocess.run(
        [*command, "--nproc-per-node", "2", str(script)],
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("equal") == 6
