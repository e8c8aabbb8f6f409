"""The queue: batches by size and time, and a bad item that harms no other."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future

import pytest

from lxmert.serve.batching import BatchQueue

Pairs = Sequence[tuple[int, "Future[int]"]]


class Squares:
    """Squares numbers, fails for a whole batch with a negative one, and notes the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()

    def __call__(self, batch: Pairs) -> None:
        self.go.wait(60)
        self.batches.append([item for item, _ in batch])
        if min(item for item, _ in batch) < 0:
            raise ValueError(f"negative: {[item for item, _ in batch]}")
        for item, future in batch:
            future.set_result(item * item)


def make_queue(work: Squares, **settings: float) -> BatchQueue[int, int]:
    queue: BatchQueue[int, int] = BatchQueue(work, **{"max_batch": 4, "max_wait": 0.0, **settings})
    queue.start()
    return queue


def test_items_that_wait_become_batches_of_at_most_the_size() -> None:
    work = Squares()
    queue = make_queue(work, max_wait=60)
    futures = [queue.submit(item) for item in range(8)]
    work.go.set()
    assert [future.result(60) for future in futures] == [item * item for item in range(8)]
    assert work.batches == [[0, 1, 2, 3], [4, 5, 6, 7]]
    queue.stop()


def test_a_lone_item_does_not_wait_for_more_than_the_time() -> None:
    work = Squares()
    work.go.set()
    queue = make_queue(work, max_wait=0.01)
    assert queue.submit(9).result(60) == 81
    queue.stop()


def test_a_bad_item_harms_no_other() -> None:
    work = Squares()
    queue = make_queue(work, max_wait=60)
    futures = [queue.submit(item) for item in (2, -3, 4, 5)]
    work.go.set()
    assert [futures[index].result(60) for index in (0, 2, 3)] == [4, 16, 25]
    with pytest.raises(ValueError, match=r"negative: \[-3\]"):
        futures[1].result(60)
    assert work.batches == [[2, -3, 4, 5], [2], [-3], [4], [5]]
    queue.stop()


def test_what_was_finished_before_a_failure_is_not_done_again() -> None:
    seen = []

    def work(batch: Pairs) -> None:
        for item, future in batch:
            seen.append(item)
            if item < 0:
                raise ValueError("negative")
            future.set_result(item)

    queue: BatchQueue[int, int] = BatchQueue(work, max_batch=3, max_wait=60)
    queue.start()
    futures = [queue.submit(item) for item in (8, -8, 9)]
    assert (futures[0].result(60), futures[2].result(60)) == (8, 9)
    assert isinstance(futures[1].exception(60), ValueError)
    assert seen == [8, -8, -8, 9]
    queue.stop()


def test_a_canceled_item_is_skipped() -> None:
    work = Squares()
    queue = make_queue(work)
    first = queue.submit(1)  # taken at once
    while len(queue):
        pass
    second, third = queue.submit(2), queue.submit(3)
    assert second.cancel()
    work.go.set()
    assert (first.result(60), third.result(60)) == (1, 9)
    assert [2] not in [batch[:1] for batch in work.batches]
    queue.stop()


def test_stopping_answers_what_waits() -> None:
    work = Squares()
    queue = make_queue(work)
    futures = [queue.submit(item) for item in range(9)]
    work.go.set()
    queue.stop()
    assert [future.result(0) for future in futures] == [item * item for item in range(9)]


def test_a_failure_to_prepare_is_kept() -> None:
    def fail() -> None:
        raise ValueError("no model")

    queue: BatchQueue[int, int] = BatchQueue(Squares(), max_batch=2, max_wait=0, prepare=fail)
    queue.start()
    assert queue.ready.wait(60)
    assert str(queue.failure) == "no model"
