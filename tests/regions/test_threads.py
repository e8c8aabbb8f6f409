"""Batches divided among threads: order, threads, and equal regions."""

import threading
from collections.abc import Iterator, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_detector import make_detector
from test_extract import assert_same, random_image

from lxmert.regions.extract import DetectorExtractor
from lxmert.regions.threads import map_parts


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@given(st.lists(st.integers(), max_size=20), st.integers(1, 5))
def test_results_are_those_of_one_call(items: list[int], threads: int) -> None:
    torch.set_num_threads(threads)
    parts: list[int] = []

    def work(part: Sequence[int]) -> list[int]:
        parts.append(len(part))
        return [2 * item for item in part]

    assert map_parts(work, items) == [2 * item for item in items]
    assert len(parts) <= threads
    assert len(parts) == 1 or min(parts) > 1


@pytest.mark.parametrize(("threads", "expected"), [(1, [1]), (2, [1, 1]), (8, [2, 2, 2])])
def test_no_more_threads_compute_than_before(threads: int, expected: list[int]) -> None:
    torch.set_num_threads(threads)
    torch.ones(2).sum()
    counts = map_parts(lambda part: [torch.get_num_threads()] * len(part), range(6))
    assert counts == [count for count in expected for _ in range(6 // len(expected))]
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert torch.get_num_threads() == threads == later[0]


def test_an_error_in_one_part_is_raised() -> None:
    torch.set_num_threads(2)

    def work(part: Sequence[int]) -> list[int]:
        return [1 // item for item in part]

    with pytest.raises(ZeroDivisionError):
        map_parts(work, [1, 1, 1, 0])


def test_regions_do_not_depend_on_the_number_of_threads() -> None:
    extractor = DetectorExtractor(make_detector())
    images = [random_image(height, 48) for height in (40, 60, 40, 50, 60)]
    torch.set_num_threads(1)
    expected = extractor(images)
    torch.set_num_threads(2)
    for ours, theirs in zip(extractor(images), expected, strict=True):
        assert_same(ours, theirs)
