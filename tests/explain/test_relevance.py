"""The rules of bi-modal relevance, against matrices worked out by hand and entry by entry."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from lxmert.explain.maps import AttentionMaps
from lxmert.explain.relevance import (
    mean_positive,
    normalize,
    propagate,
    update_cross,
    update_self,
)


def matrix(*rows: list[float]) -> Tensor:
    """Return a batch of one matrix."""
    return torch.tensor([rows], dtype=torch.float64)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_heads_are_averaged_after_what_speaks_against_is_dropped() -> None:
    """2x3: head 1 gives [[1, 0, 6], [0, 0, 3]], head 2 [[0, 4, 0], [-2 -> 0, 5, 1]]; halves."""
    maps = torch.tensor([[[[0.5, 0.2, 3], [0.1, 0, 1]], [[0.3, 2, 0], [1, 5, 0.5]]]])
    gradient = torch.tensor([[[[2.0, -1, 2], [-7, 9, 3]], [[-4, 2, 8], [-2, 1, 2]]]])
    close(mean_positive(maps, gradient).double(), matrix([0.5, 2, 3], [0, 2.5, 2]))


def test_heads_are_averaged_on_three_queries_of_four_keys() -> None:
    maps = torch.tensor([[[[1.0, 2, 3, 4], [0, 1, 0, 2], [5, 0, 0, 1]]]])
    gradient = torch.tensor([[[[1.0, -1, 0, 2], [3, 3, 3, 0.5], [-2, 4, 4, 7]]]])
    close(mean_positive(maps, gradient).double(), matrix([1, 0, 0, 8], [0, 3, 0, 1], [0, 0, 0, 7]))


def test_self_attention_updates_both_matrices_of_its_stream() -> None:
    """A stream of 2 beside one of 3, by hand: R + A R."""
    mean_map = matrix([1, 2], [0, 3])
    own, other = update_self(matrix([1, 1], [0, 2]), matrix([1, 0, 2], [0, 1, 4]), mean_map)
    close(own, matrix([2, 6], [0, 8]))
    close(other, matrix([2, 2, 12], [0, 4, 16]))


def test_self_attention_updates_a_stream_of_three_beside_one_of_four() -> None:
    mean_map = matrix([0, 1, 0], [2, 0, 0], [0, 0, 3])
    other = matrix([1, 2, 3, 4], [0, 0, 5, 0], [1, 1, 1, 1])
    own, other = update_self(matrix([1, 0, 0], [0, 1, 0], [0, 0, 1]), other, mean_map)
    close(own, matrix([1, 1, 0], [2, 1, 0], [0, 0, 4]))
    close(other, matrix([1, 2, 8, 4], [2, 4, 11, 8], [4, 4, 4, 4]))


def test_normalization_keeps_the_identity_and_scales_the_rest_of_each_row_to_one() -> None:
    close(normalize(matrix([2, 3], [1, 2])), matrix([1.25, 0.75], [0.5, 1.5]))


def test_a_row_that_gathered_nothing_stays_the_identity_instead_of_nan() -> None:
    close(
        normalize(matrix([1, 0, 0], [3, 2, 0], [0, 0, 1])),
        matrix([1, 0, 0], [0.75, 1.25, 0], [0, 0, 1]),
    )


def test_cross_attention_of_two_words_over_three_regions() -> None:
    """By hand: N(R_ss)^T A = [[1.25, 0.5], [0.75, 1.5]] A, times N(R_qq) with one full row."""
    own, other = update_cross(
        matrix([2, 3], [1, 2]),
        matrix([0, 1, 0], [2, 0, 0]),
        theirs=matrix([1, 0, 0], [0, 1, 0], [2, 2, 1]),
        back=matrix([1, 0], [0, 1], [1, 1]),
        mean_map=matrix([4, 0, 0], [0, 2, 4]),
    )
    # N(R_ss)^T A = [[5, 1, 2], [3, 3, 6]]; the third row of N(R_qq) is [.5, .5, 1]
    close(other, matrix([6, 3, 2], [8, 6, 6]))
    # A R_qs = [[4, 0], [4, 6]]
    close(own, matrix([6, 3], [5, 8]))


def test_cross_attention_of_three_words_over_four_regions() -> None:
    """By hand: N(R_ss) = [[1, 0, 0], [.5, 1.5, 0], [0, 0, 2]]; two rows of R_qq gathered."""
    own, other = update_cross(
        matrix([1, 0, 0], [1, 2, 0], [0, 0, 3]),
        matrix([1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 2]),
        theirs=matrix([1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 2, 2, 1]),
        back=matrix([1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]),
        mean_map=matrix([2, 0, 0, 4], [0, 2, 0, 0], [1, 0, 3, 0]),
    )
    # N(R_ss)^T A = [[2, 1, 0, 4], [0, 3, 0, 0], [2, 0, 6, 0]]; N(R_qq) ends in [0, .5, .5, 1]
    close(other, matrix([3, 5, 2, 4], [0, 3, 0, 0], [2, 3, 6, 2]))
    # A R_qs = [[6, 4, 0], [0, 2, 0], [1, 0, 3]]
    close(own, matrix([7, 4, 0], [1, 4, 0], [1, 0, 6]))


def test_cross_attention_before_anything_is_gathered() -> None:
    """With nothing gathered yet, what is read is the map itself, and nothing comes back."""
    mean_map = matrix([1, 2, 3, 4], [0, 0, 5, 0], [6, 0, 0, 7])
    identity = torch.eye(3, dtype=torch.float64)[None]
    own, other = update_cross(
        identity,
        torch.zeros(1, 3, 4, dtype=torch.float64),
        theirs=torch.eye(4, dtype=torch.float64)[None],
        back=torch.zeros(1, 4, 3, dtype=torch.float64),
        mean_map=mean_map,
    )
    close(other, mean_map)
    close(own, identity)


KINDS = {
    "language": (2, "words", "words"),
    "relationship": (3, "regions", "regions"),
    "text_over_regions": (2, "words", "regions"),
    "regions_over_text": (2, "regions", "words"),
    "text_over_text": (2, "words", "words"),
    "regions_over_regions": (2, "regions", "regions"),
}


def random_maps(
    seed: int, words: int, regions: int, *, batch: int = 2
) -> tuple[AttentionMaps, ...]:
    """Return maps and gradients of 2 heads; regions learn nothing in the last cross layer."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {"words": words, "regions": regions}
    maps, gradients = {}, {}
    for kind, (layers, queries, keys) in KINDS.items():
        shape = (batch, 2, sizes[queries], sizes[keys])
        maps[kind] = tuple(
            torch.rand(shape, generator=generator).softmax(-1) for _ in range(layers)
        )
        gradients[kind] = tuple(torch.randn(shape, generator=generator) for _ in range(layers))
    for kind in ("regions_over_text", "regions_over_regions"):
        gradients[kind] = (gradients[kind][0], torch.zeros_like(gradients[kind][1]))
    return AttentionMaps(**maps), AttentionMaps(**gradients)


def by_entries(maps: AttentionMaps, gradients: AttentionMaps, row: int) -> tuple[np.ndarray, ...]:
    """Propagate one example with loops over entries, the last cross layer on the text side only."""
    words, regions = maps.text_over_regions[0].shape[2:]

    def mean(kind: str, layer: int) -> np.ndarray:
        a = getattr(maps, kind)[layer][row].double().numpy()
        g = getattr(gradients, kind)[layer][row].double().numpy()
        heads, queries, keys = a.shape
        result = np.zeros((queries, keys))
        for q in range(queries):
            for k in range(keys):
                result[q, k] = sum(max(0.0, a[h, q, k] * g[h, q, k]) for h in range(heads)) / heads
        return result

    def product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.einsum("ij,jk->ik", first, second)

    def scaled(own: np.ndarray) -> np.ndarray:
        result = np.eye(len(own))
        for i in range(len(own)):
            gathered = [own[i, j] - (i == j) for j in range(len(own))]
            if sum(gathered) > 0:
                result[i] += np.array(gathered) / sum(gathered)
        return result

    tt, ii = np.eye(words), np.eye(regions)
    ti, it = np.zeros((words, regions)), np.zeros((regions, words))
    for layer in range(len(maps.language)):
        a = mean("language", layer)
        tt, ti = tt + product(a, tt), ti + product(a, ti)
    for layer in range(len(maps.relationship)):
        a = mean("relationship", layer)
        ii, it = ii + product(a, ii), it + product(a, it)
    last = len(maps.text_over_text) - 1
    for layer in range(last + 1):
        a, b = mean("text_over_regions", layer), mean("regions_over_text", layer)
        more_ti = product(scaled(tt).T, product(a, scaled(ii)))
        more_tt = product(a, it)
        more_it = product(scaled(ii).T, product(b, scaled(tt)))
        more_ii = product(b, ti)
        ti, tt = ti + more_ti, tt + more_tt
        if layer < last:
            it, ii = it + more_it, ii + more_ii
        a = mean("text_over_text", layer)
        tt, ti = tt + product(a, tt), ti + product(a, ti)
        if layer < last:
            a = mean("regions_over_regions", layer)
            ii, it = ii + product(a, ii), it + product(a, it)
    tt[0, 0] = 0
    return tt[0], ti[0]


@pytest.mark.parametrize(("words", "regions"), [(4, 3), (3, 6), (2, 1), (1, 2)])
def test_the_propagation_is_the_sum_of_its_rules(words: int, regions: int) -> None:
    for seed in range(5):
        maps, gradients = random_maps(seed, words, regions)
        found = propagate(maps, gradients)
        for row in range(2):
            expected_words, expected_regions = by_entries(maps, gradients, row)
            np.testing.assert_allclose(found.words[row], expected_words, rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(found.regions[row], expected_regions, rtol=1e-5, atol=1e-7)


def test_small_gradients_lose_no_digits_to_the_identity() -> None:
    """In float32, 1 + 1e-7 - 1 is 1.19e-7: relevance was wrong by a fifth before float64."""
    maps, gradients = random_maps(7, 4, 3)
    small = AttentionMaps(**{k: tuple(g * 1e-7 for g in v) for k, v in gradients.kinds().items()})
    found = propagate(maps, small)
    for row in range(2):
        _, expected = by_entries(maps, small, row)
        np.testing.assert_allclose(found.regions[row], expected, rtol=1e-5, atol=0)


def test_no_gradient_at_all_gives_zero_everywhere() -> None:
    maps, gradients = random_maps(3, 4, 3)
    none = AttentionMaps(**{k: tuple(g * 0 for g in v) for k, v in gradients.kinds().items()})
    found = propagate(maps, none)
    assert found.words.count_nonzero() == 0
    assert found.regions.count_nonzero() == 0


class NoWideFloats(TorchDispatchMode):
    """Refuses float64 anywhere but on the CPU, as Apple's GPUs do."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        found = func(*args, **(kwargs or {}))
        for each in found if isinstance(found, tuple | list) else (found,):
            if isinstance(each, Tensor) and each.dtype == torch.float64:
                assert each.device.type == "cpu", f"{func} made float64 on {each.device}"
        return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_float64_is_made_on_the_device(dtype: torch.dtype) -> None:
    """Relevance was float64 on the device of the model, which Apple's GPUs refuse."""
    with FakeTensorMode(), NoWideFloats():
        like = partial(torch.ones, dtype=dtype, device="cuda")
        layer = {
            "language": like(2, 4, 5, 5),
            "relationship": like(2, 4, 3, 3),
            "text_over_regions": like(2, 4, 5, 3),
            "regions_over_text": like(2, 4, 3, 5),
            "text_over_text": like(2, 4, 5, 5),
            "regions_over_regions": like(2, 4, 3, 3),
        }
        maps = AttentionMaps(**{kind: (each, each) for kind, each in layer.items()})
        found = propagate(maps, maps)
    assert (found.words.device.type, found.regions.device.type) == ("cuda", "cuda")
    assert found.words.dtype == torch.float32
