"""The pooled heads under plain DistributedDataParallel, in two real processes."""

import sys

import pytest
import torch
from ranks import finish, start_ranks
from torch.distributed import destroy_process_group, init_process_group
from torch.nn.parallel import DistributedDataParallel

from model import tiny

pytestmark = pytest.mark.long


def compare_gradients(rank):
    """Compare the gradients of a model on a part of the batch with those of the whole one."""
    init_process_group("gloo")
    for name in ("LxmertForQuestionAnswering", tiny.PAIRS, tiny.MATCHING):
        model = tiny.build(name)
        given = tiny.inputs_for(name) | tiny.labels_for(name)
        rows = torch.tensor([[0], [2]][rank])
        alone = tiny.build(name)
        both = torch.tensor([0, 2])
        alone(**{key: value[both] for key, value in given.items()}).loss.backward()
        parallel = DistributedDataParallel(model)  # no search for unused parameters
        for _ in range(2):  # the second step is the one that finds a gradient missing
            model.zero_grad()
            parallel(**{key: value[rows] for key, value in given.items()}).loss.backward()
        for key, parameter in model.named_parameters():
            expected = alone.get_parameter(key).grad
            assert (parameter.grad is None) == (expected is None), key
            if expected is not None:
                torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)
    destroy_process_group()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
def test_plain_data_parallel_trains_the_pooled_heads():
    """C5: training failed unless DistributedDataParallel searched for unused parameters."""
    finish(start_ranks(compare_gradients, 2))
