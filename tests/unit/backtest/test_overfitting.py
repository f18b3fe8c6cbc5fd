"""How far the best of many can be believed: chance gives a half, an edge gives little, too little gives no number."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.backtest.overfitting import (
    deflated_sharpe,
    highest_by_chance,
    overfitting_probability,
    probability_above,
)

YEAR = 252


def noise(seed: int, trials: int = 20, days: int = 2 * YEAR) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.01, (days, trials))


def value_of(returns: np.ndarray) -> float:
    found = overfitting_probability(returns)
    assert found.value is not None, found.reason
    return found.value


def test_among_noise_the_best_is_as_often_bad_as_good() -> None:
    found = [value_of(noise(seed)) for seed in range(30)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.1)


def test_a_true_edge_stays_best() -> None:
    found = []
    for seed in range(10):
        returns = noise(seed)
        returns[:, 7] += 0.003
        found.append(value_of(returns))
    assert max(found) < 0.05


def test_what_wins_early_and_loses_late_is_seen_through() -> None:
    """Each of the trials is good in one block of its own and bad elsewhere: the best in sample loses out of it."""
    days = 160
    returns = np.full((days, 16), -0.001) + noise(1, 16, days) * 0.01
    for trial in range(16):
        returns[trial * 10 : trial * 10 + 10, trial] += 0.01
    assert value_of(returns) > 0.9


@given(st.integers(0, 10_000), st.permutations(range(12)))
def test_the_order_of_trials_changes_nothing(seed: int, order: list[int]) -> None:
    returns = noise(seed, 12, 100)
    assert overfitting_probability(returns) == overfitting_probability(returns[:, order])


@given(st.integers(0, 10_000), st.floats(0.1, 10))
def test_a_scale_of_all_returns_changes_nothing(seed: int, scale: float) -> None:
    returns = noise(seed, 12, 100)
    assert overfitting_probability(returns * scale).value == pytest.approx(overfitting_probability(returns).value)


def test_all_splits_are_looked_at_in_equal_halves() -> None:
    detail = dict(overfitting_probability(noise(0, days=163)).detail)
    assert detail["blocks"] == 16
    assert detail["splits"] == math.comb(16, 8)
    assert detail["days"] == 160


@pytest.mark.parametrize(
    ("returns", "words"),
    [
        (noise(0, trials=9), "9 parameter sets; 10"),
        (noise(0, days=79), "79 days of returns; 80"),
        (np.zeros((200, 12)), "No parameter set's equity moved"),
        (np.full((200, 12), np.nan), "no numbers"),
    ],
)
def test_too_little_gives_a_reason_and_no_number(returns: np.ndarray, words: str) -> None:
    found = overfitting_probability(returns)
    assert found.value is None
    assert words in found.reason


@pytest.mark.parametrize(
    ("returns", "words"),
    [
        (noise(0, trials=9), "9 parameter sets; 10"),
        (noise(0, days=59), "59 days of returns; 60"),
        (np.zeros((200, 12)), "did not move"),
        (np.hstack([noise(0, 1), np.zeros((504, 12))]), "1 parameter sets whose equity moved"),
    ],
)
def test_too_little_gives_no_deflated_ratio_either(returns: np.ndarray, words: str) -> None:
    found = deflated_sharpe(returns, 0)
    assert found.value is None
    assert words in found.reason


def test_highest_by_chance_is_what_a_draw_of_so_many_shows() -> None:
    for count in (10, 100, 1_000):
        draws = np.random.default_rng(count).normal(0, 0.3, (4_000, count)).max(axis=1)
        assert highest_by_chance(0.09, count) == pytest.approx(draws.mean(), rel=0.03)


def test_the_published_example_of_a_deflated_ratio() -> None:
    """Bailey and López de Prado (2014), numerical example: 100 trials, five years, 2.5 a year is not enough at 95 %."""
    sharpe = 2.5 / math.sqrt(250)
    by_chance = highest_by_chance(0.5 / 250, 100)
    assert by_chance == pytest.approx(0.1132, abs=5e-4)
    assert probability_above(sharpe, by_chance, 1250, -3.0, 10.0) == pytest.approx(0.9004, abs=5e-4)


def test_of_noise_the_best_is_not_believed_and_an_edge_is() -> None:
    chance = [
        deflated_sharpe(returns := noise(seed, 50), int(returns.mean(axis=0).argmax())).value for seed in range(20)
    ]
    assert np.mean([value for value in chance if value is not None]) < 0.75
    returns = noise(3, 50)
    returns[:, 4] += 0.004
    edge = deflated_sharpe(returns, 4).value
    assert edge is not None
    assert edge > 0.99


@given(st.floats(0.0, 0.3), st.integers(60, 2_000))
def test_more_is_asked_where_more_was_tried(sharpe: float, days: int) -> None:
    found = [
        probability_above(sharpe, highest_by_chance(0.002, count), days, 0.0, 3.0) for count in (2, 10, 100, 1_000)
    ]
    assert found == sorted(found, reverse=True)  # type: ignore[type-var]  # normal returns have a root
