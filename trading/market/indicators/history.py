"""Figures of the days before, read on daily or weekly bars: all session long the last one is the day before's.

``trailing_*`` on bars within a session look at the same time of day of the days before.
"""

from __future__ import annotations

from collections.abc import Mapping

from trading.market.indicators.sites import Number
from trading.market.indicators.spec import OWN, PRICE, VOLUME, Choice, Formula, Params, Period, Spec, WarmUp
from trading.market.indicators.tools import Tools, ratio, where
from trading.market.indicators.volatility import atr
from trading.market.indicators.volume import volume_sma

HISTORICAL = "historical"
_DAYS = Period(20)
_NONE: Mapping[str, int | float | Choice] = {}
_FIELDS = Choice(("close", "open", "high", "low", "volume"))


def _range(t: Tools, period: int) -> tuple[Number, Number]:
    size = t.high - t.low
    return size, t.total(size, period) / period


def _gap_stats(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    gap = t.open - t.lag(t.close)
    none = t.nothing()

    def count(condition: Number) -> Number:
        return t.total(where(condition, none + 1.0, none), period)

    significant = params["significant"]
    return (
        t.total(gap, period) / period,
        count((gap > significant) | (gap < -significant)),
        count(gap > 0),
        count(gap < 0),
    )


def _trailing(kind: str) -> Formula:
    def formula(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
        column = getattr(t, params["field"])
        if t.interval.is_intraday:
            return (t.same_slot(column, period, kind),)
        if kind == "mean":
            return (t.total(column, period) / period,)
        return (t.highest(column, period) if kind == "highest" else t.lowest(column, period),)

    return formula


def _same(period: int, params: Params) -> int:
    return period


def _one_more(period: int, params: Params) -> int:
    return period + 1


def _spec(
    name: str,
    title: str,
    text: str,
    formula: Formula,
    warm_up: WarmUp,
    *,
    pane: str = OWN,
    period: Period = _DAYS,
    params: Mapping[str, int | float | Choice] = _NONE,
    outputs: tuple[str, ...] = ("value",),
) -> Spec:
    return Spec(name, title, HISTORICAL, pane, text, formula, warm_up, period, params, outputs, historical=True)


SPECS = (
    _spec("avg_volume", "Average daily volume", "Mean volume of the last n days.", volume_sma, _same, pane=VOLUME),
    _spec(
        "avg_range",
        "Average range",
        "Mean of high − low of the last n days.",
        lambda t, period, _: (_range(t, period)[1],),
        _same,
    ),
    _spec("atr_daily", "Average true range of days", "ATR of daily bars.", atr, _one_more, period=Period(14)),
    _spec(
        "gap_stats",
        "Gap statistics",
        "Of open − close before, over n days: mean, how many are larger than significant, rise, fall.",
        _gap_stats,
        _one_more,
        params={"significant": 0.01},
        outputs=("avg_gap", "gap_count", "gap_up_count", "gap_down_count"),
    ),
    _spec(
        "range_ratio",
        "Range ratio",
        "high − low of the last day ÷ its mean over n days; unknown where they had no range.",
        lambda t, period, _: (ratio(*_range(t, period)),),
        _same,
    ),
    *(
        _spec(
            name,
            title,
            f"{word} of a column over n days; within a session, at the same time of the n days before.",
            _trailing(kind),
            _same,
            pane=PRICE,
            params={"field": _FIELDS},
        )
        for name, title, word, kind in (
            ("trailing_average", "Trailing average", "Mean", "mean"),
            ("trailing_max", "Trailing maximum", "Highest value", "highest"),
            ("trailing_min", "Trailing minimum", "Lowest value", "lowest"),
        )
    ),
)
