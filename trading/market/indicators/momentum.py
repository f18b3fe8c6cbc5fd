"""Indicators of momentum, drawn under the prices.

Source: TA-Lib, but for RSI (plain averages, not Wilder's) and MACD (both averages from the first bar on, each seeded by
its own SMA). Where the last bars have no range, an oscillator has no value, though TA-Lib says 0.
"""

from __future__ import annotations

from trading.market.indicators.sites import Number
from trading.market.indicators.spec import OWN, Formula, Params, Period, Spec
from trading.market.indicators.tools import Tools, ratio, rise, unless

MOMENTUM = "momentum"


def _rsi(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    change = t.close - t.lag(t.close)
    gains, losses = t.total(rise(change), period), t.total(rise(-change), period)
    return (ratio(100.0 * gains, gains + losses),)


def _macd(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    fast = t.ta("EMA", t.close, timeperiod=params["fast"])
    line = fast - t.ta("EMA", t.close, timeperiod=params["slow"])
    signal = t.ta("EMA", line, timeperiod=params["signal"])
    return line, signal, line - signal


def _flat(t: Tools, bars: int) -> Number:
    return t.highest(t.high, bars) == t.lowest(t.low, bars)


def _stochastic(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    high, low = t.highest(t.high, period), t.lowest(t.low, period)
    k = ratio(100.0 * (t.close - low), high - low)
    return k, t.total(k, params["smooth"]) / params["smooth"]


def _williams_r(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    high, low = t.highest(t.high, period), t.lowest(t.low, period)
    return (ratio(-100.0 * (high - t.close), high - low),)


def _cci(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    typical = t.typical
    flat = t.highest(typical, period) == t.lowest(typical, period)
    return (unless(flat, t.ta("CCI", t.high, t.low, t.close, timeperiod=period)),)


def _ultimate(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    periods = [params["period1"], params["period2"], params["period3"]]
    least = min(periods)
    flat = _flat(t, least) & (t.highest(t.high, least) == t.lag(t.close, least))
    value = t.ta("ULTOSC", t.high, t.low, t.close, **{f"timeperiod{n}": one for n, one in enumerate(periods, 1)})
    return (unless(flat, value),)


def _close(function: str) -> Formula:
    return lambda t, period, _: (t.ta(function, t.close, timeperiod=period),)


SPECS = (
    Spec(
        "rsi",
        "Relative strength index",
        MOMENTUM,
        OWN,
        "100 · Σ gains ÷ (Σ gains + Σ losses) of the last n changes; unknown where none changed.",
        _rsi,
        lambda period, _: period + 1,
        Period(14),
    ),
    Spec(
        "macd",
        "Moving average convergence divergence",
        MOMENTUM,
        OWN,
        "EMA(fast) − EMA(slow), its EMA(signal), and their difference.",
        _macd,
        lambda _, params: max(params["slow"], params["fast"]) + params["signal"],
        params={"fast": 12, "slow": 26, "signal": 9},
        outputs=("macd", "signal", "histogram"),
    ),
    Spec(
        "stochastic",
        "Stochastic oscillator",
        MOMENTUM,
        OWN,
        "%K: 100 · (close − lowest low) ÷ (highest high − lowest low); %D: mean of the last %K.",
        _stochastic,
        lambda period, params: period + params["smooth"] - 1,
        Period(14),
        {"smooth": 3},
        ("k", "d"),
    ),
    Spec(
        "cci",
        "Commodity channel index",
        MOMENTUM,
        OWN,
        "(typical price − its mean) ÷ (0.015 · mean deviation).",
        _cci,
        lambda period, _: period,
        Period(20, 2),
    ),
    Spec(
        "roc",
        "Rate of change",
        MOMENTUM,
        OWN,
        "Change of the close over n bars, in per cent.",
        _close("ROC"),
        lambda period, _: period + 1,
        Period(10),
    ),
    Spec(
        "mom",
        "Momentum",
        MOMENTUM,
        OWN,
        "Change of the close over n bars, in its currency.",
        _close("MOM"),
        lambda period, _: period + 1,
        Period(10),
    ),
    Spec(
        "williams_r",
        "Williams %R",
        MOMENTUM,
        OWN,
        "−100 · (highest high − close) ÷ (highest high − lowest low).",
        _williams_r,
        lambda period, _: period,
        Period(14),
    ),
    Spec(
        "ultimate_osc",
        "Ultimate oscillator",
        MOMENTUM,
        OWN,
        "Buying pressure ÷ true range over three periods, weighted 4 : 2 : 1, in per cent.",
        _ultimate,
        lambda _, params: max(params.values()) + 1,
        params={"period1": 7, "period2": 14, "period3": 28},
    ),
)
