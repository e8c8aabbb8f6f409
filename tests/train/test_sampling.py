"""Which number is drawn when: every index error is visible."""

from collections import Counter

import numpy as np
import pytest
from toy import toy_recipe, toy_task

from lxmert.tasks.mixture import Mixture
from lxmert.train.sampling import RankShare, StepBatches, load_batches, permutation


def draws(
    *,
    micro_batches=1,
    num_ranks=1,
    first_step=0,
    last_step=23,
    num_examples=23,
    seed=3,
    mixture=None,
):
    """Return the draws by step, over all ranks and micro-batches."""
    by_step = [[] for _ in range(first_step, last_step)]
    for rank in range(num_ranks):
        share = RankShare(num_examples, seed, 8, micro_batches, rank, num_ranks, mixture)
        batches = StepBatches(share, first_step=first_step, last_step=last_step)
        micro = list(batches)
        assert len(micro) == len(batches)
        for i, batch in enumerate(micro):
            assert len(batch) == 8 // (micro_batches * num_ranks)
            by_step[i // micro_batches] += batch
    return by_step


def test_every_epoch_draws_every_example_once():
    # 23 steps of 8 examples are exactly 8 epochs of 23 examples.
    drawn = [draw for step in draws() for draw in step]
    expected = [(index, epoch) for epoch in range(8) for index in range(23)]
    assert Counter(drawn) == Counter(expected)
    assert [epoch for _, epoch in drawn] == sorted(epoch for _, epoch in drawn)


def test_the_last_incomplete_batch_is_filled_from_the_next_epoch():
    epochs = [epoch for _, epoch in draws()[2]]
    assert epochs == [0, 0, 0, 0, 0, 0, 0, 1]


def test_an_epoch_smaller_than_a_batch_is_repeated():
    drawn = draws(num_examples=3)[0]
    assert [epoch for _, epoch in drawn] == [0, 0, 0, 1, 1, 1, 2, 2]
    assert sorted(drawn[:6]) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]


@pytest.mark.parametrize(("micro_batches", "num_ranks"), [(4, 1), (1, 2), (2, 2), (1, 8)])
def test_ranks_and_micro_batches_cut_the_same_batches(micro_batches, num_ranks):
    assert draws(micro_batches=micro_batches, num_ranks=num_ranks) == draws()


def test_starting_late_skips_and_changes_nothing():
    assert draws(first_step=5, micro_batches=2) == draws(micro_batches=2)[5:]


MIXTURE = Mixture((np.arange(3), np.arange(3, 23)), (2.0, 1.0))


def test_each_epoch_of_a_mixture_draws_by_weight():
    drawn = [draw for step in draws(mixture=MIXTURE) for draw in step]
    for epoch in range(8):
        small = [index < 3 for index, _ in drawn[epoch * 23 : (epoch + 1) * 23]]
        assert sum(small) == 15  # 2 / 3 of 23
        assert small not in (sorted(small), sorted(small, reverse=True))


def test_each_data_set_of_a_mixture_is_drawn_in_whole_passes():
    """8 epochs of 23 draws: 120 of the 3 first examples, and 64 of the 20 others."""
    drawn = [draw for step in draws(mixture=MIXTURE) for draw in step]
    expected = [(index, passed) for passed in range(40) for index in range(3)]
    assert Counter(draw for draw in drawn if draw[0] < 3) == Counter(expected)
    others = [draw for draw in drawn if draw[0] >= 3]
    assert len(set(others)) == len(others) == 64
    whole = {(index, passed) for passed in range(3) for index in range(3, 23)}
    assert whole < set(others)
    assert {passed for _, passed in set(others) - whole} == {3}


def test_a_mixture_is_the_same_for_any_processes_and_from_any_step():
    whole = draws(mixture=MIXTURE)
    assert draws(mixture=MIXTURE, num_ranks=4, micro_batches=2) == whole
    assert draws(mixture=MIXTURE, first_step=9, num_ranks=2) == whole[9:]
    assert draws(mixture=MIXTURE, seed=4) != whole


def test_order_depends_on_seed_and_epoch():
    orders = [permutation(23, seed, epoch).tolist() for seed in (1, 2) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(23)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert permutation(23, 1, 0).tolist() == orders[0]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_any_number_of_workers_gives_the_same_batches(tmp_path, workers):
    task = toy_task(toy_recipe(tmp_path))
    batches = StepBatches(RankShare(23, 3, 8, 2, 0, 1), first_step=2, last_step=6)
    loaded = list(load_batches(task, batches, workers=workers, pin_memory=False))
    expected = [task.collate([task.example(*draw) for draw in batch]) for batch in batches]
    assert len(loaded) == len(expected) == 8
    for got, wanted in zip(loaded, expected, strict=True):
        assert got["numbers"].tolist() == wanted["numbers"].tolist()
        assert got["noise"].tolist() == wanted["noise"].tolist()
