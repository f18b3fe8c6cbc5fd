"""Indicators of the trend, drawn over the prices.

Source: averages by TA-Lib (EMA seeded by the SMA of its first bars), VWAP and TWAP since the session began.
"""

from __future__ import annotations

from trading.market.indicators.sites import Number
from trading.market.indicators.spec import PRICE, Formula, Params, Period, Spec, WarmUp
from trading.market.indicators.tools import Tools, ratio

TREND = "trend"


def _average(function: str) -> Formula:
    def formula(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
        return (t.ta(function, t.close, timeperiod=period),)

    return formula


def _vwap(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    return (ratio(t.session_total(t.typical * t.volume), t.session_total(t.volume)),)


def _twap(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    return (ratio(t.session_total(t.close), t.session_total(t.nothing() + 1.0)),)


def _times(n: int) -> WarmUp:
    return lambda period, _: n * period


def _hull(period: int, params: Params) -> int:
    return period + int(period**0.5) - 1


def _spec(name: str, title: str, text: str, usual: int, warm_up: WarmUp) -> Spec:
    return Spec(name, title, TREND, PRICE, text, _average(name.upper()), warm_up, Period(usual))


SPECS = (
    _spec("sma", "Simple moving average", "Mean of the last closes.", 20, _times(1)),
    _spec(
        "ema",
        "Exponential moving average",
        "2/(n+1) of the close, the rest of the value before; begins with the mean of the first n closes.",
        20,
        _times(1),
    ),
    _spec("wma", "Weighted moving average", "Mean of the last closes weighted 1…n, the newest most.", 20, _times(1)),
    _spec("dema", "Double exponential moving average", "2·EMA − EMA(EMA).", 20, _times(2)),
    _spec("tema", "Triple exponential moving average", "3·EMA − 3·EMA(EMA) + EMA(EMA(EMA)).", 20, _times(3)),
    _spec("hma", "Hull moving average", "WMA over √n of 2·WMA(n/2) − WMA(n).", 20, _hull),
    Spec(
        "vwap",
        "Volume-weighted average price",
        TREND,
        PRICE,
        "Σ (high+low+close)/3 · volume ÷ Σ volume since the session began; unknown before the first trade.",
        _vwap,
        lambda *_: 1,
        intraday_only=True,
    ),
    Spec(
        "twap",
        "Time-weighted average price",
        TREND,
        PRICE,
        "Mean of the closes since the session began.",
        _twap,
        lambda *_: 1,
        intraday_only=True,
    ),
)
