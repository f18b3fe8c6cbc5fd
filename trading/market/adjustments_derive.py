"""Find the splits and dividends behind a column of adjusted closes; tell whether prices have splits applied. Pure.

Owns: the search. Leaves: applying what was found (``adjustments``).
The adjusted close is close × factor, and the factor changes on ex-dates only. Both columns are rounded, so each day
tells only an interval for its factor; a stretch of days whose intervals have a value in common is one factor. Where the
stretch ends, a split or a dividend lies; days on which either side would fit are decided by the smaller sum of errors.
Limits: a dividend smaller than the rounding of the adjusted close is not seen, and need not be: adjusting without it is
right to that same rounding. A stock dividend of less than a fifth is taken for cash, which adjusts prices alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from strategies.exceptions import ConfigError

Floats = npt.NDArray[np.float64]
_USUAL = sorted({
    *(float(new) for new in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 100)),
    *(1.0 / old for old in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 100)),
    *(3 / 2, 4 / 3, 5 / 4, 5 / 3, 5 / 2, 6 / 5, 7 / 2, 7 / 4),
})  # fmt: skip
_NEAR_RATIO = 0.02
_FINEST = 1e-9  # relative, of columns that were not rounded to a few decimals


@dataclass(slots=True)
class Derived:
    """What was found: by ex-date (as in the index given), new shares for one old, and cash a share."""

    splits: dict[Any, float]
    dividends: dict[Any, float]


def derive_actions(close: pd.Series[float], adjusted: pd.Series[float]) -> Derived:
    """Return the actions behind an adjusted close.

    Shape: both sorted by day, of equal index, prices as they were traded.
    Raises: ConfigError (bad_adjusted) naming the first row that is no price.
    """
    raw, adj = (np.asarray(column, dtype=np.float64) for column in (close, adjusted))
    wrong = ~(np.isfinite(raw) & np.isfinite(adj) & (raw > 0) & (adj > 0))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ConfigError(
            f"Row {row} ({close.index[row]}): the adjusted close is no price.", code="bad_adjusted", row=row
        )
    half, raw_half = _half_unit(adj), _half_unit(raw)
    low, high = (adj - half) / (raw + raw_half), (adj + half) / (raw - raw_half)
    noise = (high - low) / (high + low)
    found = Derived({}, {})
    if not len(raw):
        return found
    edges = _edges(raw, adj, low, high)
    factors = [_factor(low[a:b], high[a:b]) for a, b in zip([0, *edges], [*edges, len(raw)], strict=True)]
    for edge, before, after in zip(edges, factors[:-1], factors[1:], strict=True):
        _explain(close.index[edge], before / after, raw[edge - 1], raw[edge], noise[edge - 1], found)
    return found


def _half_unit(values: Floats) -> Floats:
    """Return half of the last decimal that a column has, by value; its finest part when it was not rounded."""
    for decimals in (2, 3, 4, 5, 6):
        if np.allclose(values, np.round(values, decimals), rtol=0, atol=1e-9):
            return np.full_like(values, 0.5 * 10.0**-decimals * 1.02)
    return values * _FINEST


def _edges(raw: Floats, adj: Floats, low: Floats, high: Floats) -> list[int]:
    """Return the rows at which the factor changes."""
    ends, start, lo, hi = [], 0, -np.inf, np.inf
    for row in range(len(raw)):
        lo, hi = max(lo, low[row]), min(hi, high[row])
        if lo > hi:
            ends.append((start, row))
            start, lo, hi = row, low[row], high[row]
    found: list[int] = []
    following = [*(edge for _, edge in ends[1:]), len(raw)][: len(ends)]
    for (begin, edge), stop in zip(ends, following, strict=True):
        first = found[-1] if found else begin
        found.append(_best_edge(raw, adj, low, high, max(first, begin), edge, stop))
    return found


def _best_edge(raw: Floats, adj: Floats, low: Floats, high: Floats, begin: int, edge: int, stop: int) -> int:
    """Return where between ``begin`` and ``edge`` the factor changed: the days before ``edge`` may fit both sides."""
    lo, hi, earliest = low[edge:stop].max(), high[edge:stop].min(), edge
    while earliest - 1 > begin and max(lo, low[earliest - 1]) <= min(hi, high[earliest - 1]):
        earliest -= 1
        lo, hi = max(lo, low[earliest]), min(hi, high[earliest])
    if earliest == edge:
        return edge
    left, right = _factor(low[begin:earliest], high[begin:earliest]), _factor(low[edge:stop], high[edge:stop])
    days = slice(earliest, edge)
    errors_left, errors_right = np.abs(adj[days] - left * raw[days]), np.abs(adj[days] - right * raw[days])
    sums = [errors_left[:n].sum() + errors_right[n:].sum() for n in range(edge - earliest + 1)]
    return earliest + int(np.argmin(sums))


def _factor(low: Floats, high: Floats) -> float:
    """Return the value that all days of a stretch have in common; the middle of what is possible."""
    return float((low.max() + high.min()) / 2)


def _explain(day: Any, step: float, before: float, after: float, noise: float, found: Derived) -> None:
    """Take one change of the factor for a split, a dividend, or both; ``step`` is the old factor over the new."""
    rest, jump = step, np.log(after / before)
    if abs(jump - np.log(step)) < abs(jump):  # prices moved with it
        ratio = min(_USUAL, key=lambda usual: abs(np.log(usual * step)))
        if abs(np.log(ratio * step)) < _NEAR_RATIO:
            found.splits[day] = ratio
            rest = step * ratio
        elif step > 1:
            found.splits[day] = 1.0 / step
            return
    if rest < 1 - 2 * noise:
        shares = before / found.splits.get(day, 1.0)
        found.dividends[day] = float(shares * (1.0 - rest))
    elif rest > 1 + 2 * noise and day not in found.splits:
        found.splits[day] = 1.0 / rest


def has_splits_applied(close: pd.Series[float], splits: dict[Any, float]) -> bool | None:
    """Tell whether prices have these splits applied: then they do not jump on the ex-dates; None when nothing tells.

    Raises: ConfigError (mixed_splits) when some days jump and others do not.
    """
    words: dict[Any, bool] = {}
    for day, ratio in splits.items():
        place = close.index.searchsorted(day)
        if 0 < place < len(close) and abs(np.log(ratio)) > 0.1:
            jump = float(np.log(close.iloc[place] / close.iloc[place - 1]))
            words[day] = bool(abs(jump) < abs(jump + np.log(ratio)))
    if len(set(words.values())) > 1:
        applied = ", ".join(str(day)[:10] for day, is_applied in words.items() if is_applied)
        raise ConfigError(
            f"The prices have the splits of {applied} applied, and others not; say which they are with --prices.",
            code="mixed_splits",
        )
    return next(iter(words.values()), None)
