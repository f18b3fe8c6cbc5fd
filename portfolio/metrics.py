"""Ratios over daily returns, by empyrical.

Owns: which of its functions are asked, from how many days on, and that a number that means nothing is None with a
reason. Loads pandas: import it where it is used, not at the top of a module that pages load.
Units: fractions; a year has ``returns.DAYS_A_YEAR`` days; no risk-free rate is taken off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import empyrical
import pandas as pd

from portfolio.returns import DAYS_A_YEAR

FEW = 20  # days below which a yearly figure is chance


@dataclass(slots=True)
class Ratios:
    """Figures by name, None where unknown, and why."""

    values: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, compute: Callable[[], Any], days: int, needed: int = FEW) -> None:
        """Compute a figure when there are enough days and it is a number."""
        self.values[name] = None
        if days < needed:
            self.reasons[name] = f"{days} {'day' if days == 1 else 'days'} of returns; {needed} are needed."
            return
        number = float(compute())
        if math.isfinite(number):
            self.values[name] = number
        else:
            self.reasons[name] = "It is no number: nothing varied."


def ratios_of(returns: Mapping[date, float]) -> Ratios:
    """Return cumulative return, CAGR, volatility, Sharpe, Sortino, drawdown with its dates, Calmar."""
    found, series = Ratios(), series_of(returns)
    days = len(series)
    found.put("cumulative", lambda: empyrical.cum_returns_final(series), days, 1)
    found.put("cagr", lambda: empyrical.cagr(series, annualization=DAYS_A_YEAR), days)
    found.put("volatility", lambda: empyrical.annual_volatility(series, annualization=DAYS_A_YEAR), days)
    found.put("sharpe", lambda: _steady(series, empyrical.sharpe_ratio), days)
    found.put("sortino", lambda: _steady(series, empyrical.sortino_ratio), days)
    found.put("max_drawdown", lambda: empyrical.max_drawdown(series), days, 2)
    found.put("calmar", lambda: empyrical.calmar_ratio(series, annualization=DAYS_A_YEAR), days)
    found.values.update(_drawdown_dates(returns))
    return found


def against(returns: Mapping[date, float], closes: pd.Series) -> Ratios:
    """Return alpha, beta and information ratio against a benchmark's daily closes, over the days that both have.

    The benchmark's return of a day runs from its last close on or before the owner's day before.
    """
    found, mine = Ratios(), series_of(returns)
    theirs = benchmark_returns(closes, pd.DatetimeIndex(mine.index))
    both = mine.index.intersection(theirs.index)
    mine, theirs = mine.loc[both], theirs.loc[both]
    days = len(both)
    alpha_beta = empyrical.alpha_beta(mine, theirs, annualization=DAYS_A_YEAR) if days >= FEW else (0.0, 0.0)
    found.put("alpha", lambda: alpha_beta[0], days)
    found.put("beta", lambda: alpha_beta[1], days)
    found.put("information_ratio", lambda: empyrical.excess_sharpe(mine, theirs) * math.sqrt(DAYS_A_YEAR), days)
    found.put("benchmark_return", lambda: empyrical.cum_returns_final(theirs), days, 1)
    return found


def series_of(returns: Mapping[date, float]) -> pd.Series:
    """Return daily returns as a series, oldest first."""
    days = sorted(returns)
    return pd.Series([returns[day] for day in days], index=pd.DatetimeIndex(days), dtype="float64")


def benchmark_returns(closes: pd.Series, days: pd.DatetimeIndex) -> pd.Series:
    """Return the benchmark's returns on the given days; a day without a session has none and so returns zero."""
    known = closes.groupby(pd.DatetimeIndex(closes.index).tz_localize(None).normalize()).last()
    filled = known.reindex(known.index.union(days)).ffill()
    on_days = filled.loc[days] if len(days) else filled.iloc[:0]
    before = filled.shift(1).loc[days] if len(days) else filled.iloc[:0]
    previous = on_days.shift(1).fillna(before)
    return (on_days / previous - 1).dropna()


def curves_of(returns: Mapping[date, float]) -> list[tuple[date, float, float, float]]:
    """Return day, return, cumulative return and drawdown from the highest point so far."""
    series = series_of(returns)
    wealth = (1 + series).cumprod()
    drawdown = wealth / wealth.cummax().clip(lower=1.0) - 1
    return [
        (day.date(), float(one), float(grown) - 1, float(fallen))
        for day, one, grown, fallen in zip(series.index, series, wealth, drawdown, strict=True)
    ]


def by_month(returns: Mapping[date, float]) -> list[tuple[int, list[float | None], float]]:
    """Return a row a year, the newest first: the return of each month, None without days in it, and of the year."""
    series = series_of(returns)
    monthly = empyrical.aggregate_returns(series, "monthly").to_dict()
    yearly = empyrical.aggregate_returns(series, "yearly").to_dict()
    return [
        (int(year), [_number(monthly.get((year, month))) for month in range(1, 13)], float(total))
        for year, total in sorted(yearly.items(), reverse=True)
    ]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, float) else None


def _steady(series: pd.Series, ratio: Callable[..., Any]) -> float:
    """Ask for a ratio only where something varies: the rest of a rounding is no risk."""
    if float(series.std()) < 1e-12:
        return math.nan
    return float(ratio(series, annualization=DAYS_A_YEAR))


def _drawdown_dates(returns: Mapping[date, float]) -> dict[str, date | None]:
    """Return from which day to which the deepest fall went, and when it was made good."""
    dates: dict[str, date | None] = dict.fromkeys(("drawdown_from", "drawdown_to", "drawdown_recovered"))
    wealth = peak = 1.0
    deepest, top, peak_at_bottom = 0.0, min(returns, default=None), 1.0
    for day in sorted(returns):
        wealth *= 1 + returns[day]
        if wealth >= peak:
            peak, top = wealth, day
        elif wealth / peak - 1 < deepest:
            deepest, peak_at_bottom = wealth / peak - 1, peak
            dates = {"drawdown_from": top, "drawdown_to": day, "drawdown_recovered": None}
        if dates["drawdown_to"] and not dates["drawdown_recovered"] and wealth >= peak_at_bottom:
            dates["drawdown_recovered"] = day
    return dates
