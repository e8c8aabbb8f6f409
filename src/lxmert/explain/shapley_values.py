"""Shapley values of any game of a few dozen players; knows no model."""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Coalitions = npt.NDArray[np.bool_]

Game = Callable[[Coalitions], Array]
"""`[coalitions, players]` booleans, True = takes part -> values `[coalitions, outputs]`."""

MAX_EXACT_PLAYERS = 10
"""With at most this many players, all 2^players coalitions are evaluated."""

SAMPLES = 2000
"""Coalitions that are evaluated if there are more players."""


class ShapleyValues(NamedTuple):
    """Contribution of each player; the values add up to that of everyone minus that of no one.

    Attributes:
        values: `[players, outputs]`.
        errors: `[players, outputs]` standard errors; 0 if the values are exact.
    """

    values: Array
    errors: Array


def shapley_values(
    game: Game, num_players: int, *, samples: int = SAMPLES, seed: int = 0
) -> ShapleyValues:
    """Compute Shapley values exactly for few players, and by sampling for more.

    Sampling draws random orders of the players, each followed by its reverse, whose errors partly
    cancel, and averages the marginal contributions.

    Args:
        game: the value of coalitions; called with many coalitions at once.
        num_players: number of players; 0 gives empty values.
        samples: coalitions to evaluate, at least four for each player: a smaller number leaves no
            estimate of the error.
        seed: seed of the orders.

    Raises:
        ValueError: if there are too few samples.

    Source: Shapley 1953; Castro, Gomez and Tejada 2009 for sampling; Mitchell et al. 2022, section
    4.1, for reversed orders.
    """
    if num_players <= MAX_EXACT_PLAYERS:
        return _exact(game, num_players)
    # An order and its reverse share the empty and the full coalition with all others.
    per_pair = 2 * (num_players - 1)
    pairs = (samples - 2) // per_pair
    if pairs < 2:
        raise ValueError(
            f"got {samples} samples for {num_players} players, expected at least "
            f"{2 * per_pair + 2}: two orders and their reverses"
        )
    return _sampled(game, num_players, pairs, seed)


def _exact(game: Game, num_players: int) -> ShapleyValues:
    coalitions = np.array(
        list(itertools.product((False, True), repeat=num_players)), dtype=np.bool_
    ).reshape(2**num_players, num_players)
    worths = game(coalitions)
    sizes = coalitions.sum(axis=1)
    weights = np.array(
        [1 / (num_players * math.comb(num_players - 1, size)) for size in range(num_players)]
    )
    values = np.zeros((num_players, worths.shape[1]))
    for player in range(num_players):
        bit = 1 << (num_players - 1 - player)
        without = np.flatnonzero(~coalitions[:, player])
        gains = worths[without + bit] - worths[without]
        values[player] = weights[sizes[without]] @ gains
    return ShapleyValues(values, np.zeros_like(values))


def _sampled(game: Game, num_players: int, pairs: int, seed: int) -> ShapleyValues:
    rng = np.random.default_rng(seed)
    orders = np.stack([rng.permutation(num_players) for _ in range(pairs)])
    orders = np.stack([orders, orders[:, ::-1]], axis=1)  # [pairs, 2, players]
    # places[..., player] is the position of the player in the order.
    places = np.argsort(orders, axis=2)
    steps = np.arange(num_players + 1)[:, None]
    # [pairs, 2, players + 1, players]: the first k players of each order.
    coalitions = places[:, :, None, :] < steps
    inner = coalitions[:, :, 1:-1].reshape(-1, num_players)
    ends = np.stack([np.zeros(num_players, np.bool_), np.ones(num_players, np.bool_)])
    worths = game(np.concatenate([ends, inner]))
    outputs = worths.shape[1]
    chains = np.empty((pairs, 2, num_players + 1, outputs))
    chains[:, :, 0], chains[:, :, -1] = worths[0], worths[1]
    chains[:, :, 1:-1] = worths[2:].reshape(pairs, 2, num_players - 1, outputs)
    gains = np.diff(chains, axis=2)  # of the player at each position
    of_player = np.take_along_axis(gains, places[..., None], axis=2).mean(axis=1)
    errors = of_player.std(axis=0, ddof=1) / math.sqrt(pairs)
    return ShapleyValues(of_player.mean(axis=0), errors)
