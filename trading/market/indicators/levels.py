"""Support and resistance: levels of the day before, extremes, and turning points once they are confirmed."""

from __future__ import annotations

from trading.market.indicators.sites import Number
from trading.market.indicators.spec import PRICE, Params, Period, Spec
from trading.market.indicators.tools import Tools, unless

SUPPORT = "support"


def _pivots(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    high, low = t.day_before(t.high, "highest"), t.day_before(t.low, "lowest")
    close = t.day_before(t.close, "last")
    pivot = (high + low + close) / 3.0
    return (
        pivot,
        2.0 * pivot - low,
        pivot + (high - low),
        high + 2.0 * (pivot - low),
        2.0 * pivot - high,
        pivot - (high - low),
        low - 2.0 * (high - pivot),
    )


def high_low(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    """Return the highest high and the lowest low."""
    return t.highest(t.high, period), t.lowest(t.low, period)


def _swing_high(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    middle = t.lag(t.high, period)
    return (t.hold(unless(t.highest(t.high, 2 * period + 1) != middle, middle)),)


def _swing_low(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    middle = t.lag(t.low, period)
    return (t.hold(unless(t.lowest(t.low, 2 * period + 1) != middle, middle)),)


SPECS = (
    Spec(
        "pivot_points",
        "Pivot points",
        SUPPORT,
        PRICE,
        "Of high, low and close of the regular session before: P=(H+L+C)/3, R1=2P−L, R2=P+H−L, R3=H+2(P−L), "
        "S1=2P−H, S2=P−H+L, S3=L−2(H−P).",
        _pivots,
        lambda *_: 2,
        outputs=("pp", "r1", "r2", "r3", "s1", "s2", "s3"),
    ),
    Spec(
        "high_low",
        "Highest high and lowest low",
        SUPPORT,
        PRICE,
        "Of the last n bars.",
        high_low,
        lambda period, _: period,
        Period(20),
        outputs=("high", "low"),
    ),
    Spec(
        "swing_high",
        "Swing high",
        SUPPORT,
        PRICE,
        "The last high that no high of the n bars before or after it passed; known n bars later.",
        _swing_high,
        lambda period, _: 2 * period + 1,
        Period(5),
    ),
    Spec(
        "swing_low",
        "Swing low",
        SUPPORT,
        PRICE,
        "The last low that no low of the n bars before or after it passed; known n bars later.",
        _swing_low,
        lambda period, _: 2 * period + 1,
        Period(5),
    ),
)
