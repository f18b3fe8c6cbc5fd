"""How far the best of many trials can be believed: probability of backtest overfitting, deflated Sharpe ratio. Pure.

Owns: both measures and when they mean nothing. Leaves: where the returns come from (``sweep``, ``walk_forward``).
Rule: too few trials or too short a sample is «not known» with the reason, never a number.

Probability of backtest overfitting (PBO), by combinatorially symmetric cross-validation: the days are cut into an even
number of blocks of equal length; each choice of half of the blocks is in sample once, the rest out of sample. The trial
with the best Sharpe ratio in sample has some rank out of sample; PBO is the share of choices in which that rank is not
above the median. Half says that choosing brought nothing; near 0, that what was best stays good.

Deflated Sharpe ratio (DSR): the probability that the chosen trial's true Sharpe ratio is above 0, where it is compared
not with 0 but with the highest that so many trials without any skill would show, and skew and fat tails count.

A trial that holds nothing for a while has no Sharpe ratio there; among the others it ranks as 0: neither won nor lost.
Units: Sharpe ratios here are of one day, not yearly. Trials count as independent, which makes the DSR stricter.
Source: Bailey, Borwein, López de Prado, Zhu, «The probability of backtest overfitting», J. Computational Finance 20(4),
2017; Bailey, López de Prado, «The deflated Sharpe ratio», J. Portfolio Management 40(5), 2014.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy as np

from strategies.bar_series import Floats

MOST_BLOCKS = 16
FEWEST_BLOCKS = 8
DAYS_A_BLOCK = 10
FEWEST_TRIALS = 10
FEWEST_DAYS = 60  # for a deflated Sharpe ratio: its third and fourth moments are chance below
_SPLITS_AT_ONCE = 512
_NORMAL = NormalDist()
_NO_RISK = 1e-12


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure; ``value`` None is not known, for ``reason``. ``detail`` holds what it was made of."""

    value: float | None
    reason: str = ""
    detail: tuple[tuple[str, float], ...] = ()

    def as_json(self) -> dict[str, object]:
        """Return it JSON-able."""
        return {"value": self.value, "reason": self.reason, **dict(self.detail)}


def unknown(reason: str) -> Measure:
    """Return a measure that is not known."""
    return Measure(None, reason)


def overfitting_probability(returns: Floats) -> Measure:
    """Return the probability of backtest overfitting.

    Shape: ``returns`` (days, trials), daily, finite. ``detail``: blocks, splits, days used, and the share of splits in
    which the trial that was best in sample lost out of sample.
    """
    days, trials = returns.shape
    if trials < FEWEST_TRIALS:
        return unknown(f"{trials} parameter sets; {FEWEST_TRIALS} are needed.")
    blocks = min(MOST_BLOCKS, days // DAYS_A_BLOCK // 2 * 2)
    if blocks < FEWEST_BLOCKS:
        return unknown(f"{days} days of returns; {FEWEST_BLOCKS * DAYS_A_BLOCK} are needed.")
    if not np.isfinite(returns).all():
        return unknown("Some returns are no numbers.")
    length = days // blocks
    used = returns[days - length * blocks :]  # the oldest days that fill no block are left out
    if float(used.std(axis=0).max()) < _NO_RISK:
        return unknown("No parameter set's equity moved.")
    below, lost, splits = _splits(used.reshape(blocks, length, trials))
    detail = (
        ("blocks", float(blocks)),
        ("splits", float(splits)),
        ("days", float(len(used))),
        ("trials", float(trials)),
        ("loss", lost / splits),
    )
    return Measure(below / splits, "", detail)


def _splits(blocks: Floats) -> tuple[int, int, int]:
    """Return in how many splits the best in sample came out at or below the median, lost, and how many there were."""
    count, length, trials = blocks.shape
    sums, squares = blocks.sum(axis=1), (blocks**2).sum(axis=1)
    total, total_squares = sums.sum(axis=0), squares.sum(axis=0)
    halves = list(combinations(range(count), count // 2))
    size = length * count // 2
    below = lost = 0
    for at in range(0, len(halves), _SPLITS_AT_ONCE):
        some = halves[at : at + _SPLITS_AT_ONCE]
        chosen = np.zeros((len(some), count))
        np.put_along_axis(chosen, np.array(some), 1.0, axis=1)
        inside, inside_squares = chosen @ sums, chosen @ squares
        best = _sharpe(inside, inside_squares, size).argmax(axis=1)
        outside = _sharpe(total - inside, total_squares - inside_squares, size)
        own = np.take_along_axis(outside, best[:, None], axis=1)
        rank = (outside < own).sum(axis=1) + ((outside == own).sum(axis=1) + 1) / 2
        below += int((rank / (trials + 1) <= 0.5).sum())
        lost += int((own[:, 0] < 0).sum())
    return below, lost, len(halves)


def _sharpe(sums: Floats, squares: Floats, count: int) -> Floats:
    """Return daily Sharpe ratios; 0 where nothing varied. Rounded, so that equal columns stay equal."""
    mean = sums / count
    variance = np.maximum(squares / count - mean**2, 0.0)
    made = np.divide(mean, np.sqrt(variance), out=np.zeros_like(mean), where=variance > _NO_RISK**2)
    return np.asarray(np.round(made, 12))


def daily_sharpe(returns: Floats) -> float | None:
    """Return mean over standard deviation; None where nothing varied."""
    deviation = float(returns.std(ddof=1)) if len(returns) > 1 else 0.0
    return float(returns.mean()) / deviation if deviation > _NO_RISK else None


def highest_by_chance(variance: float, trials: int) -> float:
    """Return the highest Sharpe ratio that is to be expected of so many trials without skill.

    ``variance`` is that of the trials' Sharpe ratios; ``trials`` at least 2.
    """
    euler = 0.5772156649015329
    first = _NORMAL.inv_cdf(1 - 1 / trials)
    second = _NORMAL.inv_cdf(1 - 1 / (trials * math.e))
    return math.sqrt(variance) * ((1 - euler) * first + euler * second)


def probability_above(sharpe: float, benchmark: float, days: int, skew: float, kurtosis: float) -> float | None:
    """Return how probable it is that the true Sharpe ratio is above a benchmark; None where the formula has no root.

    ``kurtosis`` is 3 for normal returns.
    """
    spread = 1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2
    if spread <= 0:
        return None
    return _NORMAL.cdf((sharpe - benchmark) * math.sqrt(days - 1) / math.sqrt(spread))


def deflated_sharpe(returns: Floats, chosen: int) -> Measure:
    """Return the deflated Sharpe ratio of one of the trials.

    Shape: ``returns`` (days, trials), daily, finite. ``detail``: its daily Sharpe ratio, and the highest by chance.
    """
    days, trials = returns.shape
    if trials < FEWEST_TRIALS:
        return unknown(f"{trials} parameter sets; {FEWEST_TRIALS} are needed.")
    if days < FEWEST_DAYS:
        return unknown(f"{days} days of returns; {FEWEST_DAYS} are needed.")
    if not np.isfinite(returns).all():
        return unknown("Some returns are no numbers.")
    own = returns[:, chosen]
    sharpe = daily_sharpe(own)
    if sharpe is None:
        return unknown("The chosen set's equity did not move.")
    all_of_them = [found for found in map(daily_sharpe, returns.T) if found is not None]
    if len(all_of_them) < FEWEST_TRIALS:
        return unknown(f"{len(all_of_them)} parameter sets whose equity moved; {FEWEST_TRIALS} are needed.")
    by_chance = highest_by_chance(float(np.var(all_of_them, ddof=1)), len(all_of_them))
    apart = own - own.mean()
    deviation = float(np.sqrt((apart**2).mean()))
    skew, kurtosis = (float((apart**power).mean()) / deviation**power for power in (3, 4))
    value = probability_above(sharpe, by_chance, days, skew, kurtosis)
    if value is None:
        return unknown("Its returns are too skewed for the formula.")
    return Measure(value, "", (("sharpe", sharpe), ("by_chance", by_chance), ("trials", float(len(all_of_them)))))
