"""Shapley values, compared with the average over all orders of the players."""

import itertools

import numpy as np
import pytest

from lxmert.explain import shapley_values as module
from lxmert.explain.shapley_values import shapley_values


def random_game(players: int, outputs: int = 2):
    """A game with interactions of all sizes: one random worth for every coalition."""
    worths = np.random.default_rng(players).normal(size=(2**players, outputs))
    bits = 1 << np.arange(players)

    def game(coalitions: np.ndarray) -> np.ndarray:
        return worths[coalitions @ bits]

    return game


def over_all_orders(game, players: int) -> np.ndarray:
    gains = []
    for order in itertools.permutations(range(players)):
        taking_part = np.zeros(players, dtype=bool)
        gain = np.zeros((players, 2))
        for player in order:
            before = game(taking_part[None])[0]
            taking_part[player] = True
            gain[player] = game(taking_part[None])[0] - before
        gains.append(gain)
    return np.mean(gains, axis=0)


@pytest.mark.parametrize("players", [1, 2, 5, 6])
def test_few_players_are_computed_exactly(players: int) -> None:
    game = random_game(players)
    found = shapley_values(game, players)
    np.testing.assert_allclose(found.values, over_all_orders(game, players), atol=1e-12)
    assert not found.errors.any()


def test_eight_players_equal_the_definition_by_coalitions() -> None:
    game, players = random_game(8), 8
    expected = np.zeros((8, 2))
    for player in range(8):
        others = [other for other in range(8) if other != player]
        for size in range(8):
            gains = []
            for chosen in itertools.combinations(others, size):
                without = np.isin(np.arange(8), chosen)
                both = np.stack([without, without | (np.arange(8) == player)])
                gains.append(np.diff(game(both), axis=0)[0])
            expected[player] += np.mean(gains, axis=0) / 8
    np.testing.assert_allclose(shapley_values(game, players).values, expected, atol=1e-6)


def test_sampled_values_lie_within_their_errors_and_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    game = random_game(8)
    exact = shapley_values(game, 8).values
    monkeypatch.setattr(module, "MAX_EXACT_PLAYERS", 3)
    distances = []
    for seed in range(40):
        found = shapley_values(game, 8, samples=300, seed=seed)
        distances.append((found.values - exact) / found.errors)
        everyone, no_one = game(np.array([[True] * 8, [False] * 8]))
        np.testing.assert_allclose(found.values.sum(axis=0), everyone - no_one, atol=1e-12)
    assert np.mean(np.abs(distances) < 2) > 0.9
    assert abs(np.mean(distances)) < 0.25


def test_more_samples_have_smaller_errors_and_a_seed_repeats_them() -> None:
    game = random_game(12)
    few, many = (shapley_values(game, 12, samples=count) for count in (200, 5000))
    assert many.errors.mean() < few.errors.mean() / 3
    again = shapley_values(game, 12, samples=200)
    np.testing.assert_array_equal(few.values, again.values)


def test_players_without_effect_and_equal_players() -> None:
    def game(coalitions: np.ndarray) -> np.ndarray:
        return (coalitions[:, 1] & coalitions[:, 14]).astype(float)[:, None]

    found = shapley_values(game, 15, samples=4000)
    assert not np.delete(found.values, [1, 14], axis=0).any()
    np.testing.assert_allclose(found.values[[1, 14], 0], 0.5, atol=1e-12)  # by reversed orders


def test_no_more_coalitions_are_evaluated_than_allowed() -> None:
    evaluated = []

    def game(coalitions: np.ndarray) -> np.ndarray:
        evaluated.append(len(coalitions))
        return coalitions.sum(axis=1, dtype=float)[:, None]

    assert shapley_values(game, 48, samples=2000).values.shape == (48, 1)
    assert 1800 < sum(evaluated) <= 2000


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="got 50 samples for 20 players, expected at least 78"):
        shapley_values(random_game(3), 20, samples=50)
