"""Indicators of volatility.

Source: TA-Lib (ATR by Wilder's smoothing, standard deviations of the population); Keltner's channel from both.
"""

from __future__ import annotations

from trading.market.indicators.sites import Number
from trading.market.indicators.spec import OWN, PRICE, Params, Period, Spec
from trading.market.indicators.tools import Tools, log, ratio

VOLATILITY = "volatility"
_BANDS = ("middle", "upper", "lower")


def atr(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    """Return Wilder's average true range."""
    return (t.ta("ATR", t.high, t.low, t.close, timeperiod=period),)


def _bbands(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    factor = params["num_std"]
    upper, middle, lower = t.ta("BBANDS", t.close, timeperiod=period, nbdevup=factor, nbdevdn=factor)
    return middle, upper, lower, ratio(upper - lower, middle)


def _keltner(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    middle = t.ta("EMA", t.close, timeperiod=period)
    width = params["multiplier"] * t.ta("ATR", t.high, t.low, t.close, timeperiod=params["atr_period"])
    return middle, middle + width, middle - width


def _donchian(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    upper, lower = t.highest(t.high, period), t.lowest(t.low, period)
    return (upper + lower) / 2.0, upper, lower


def _stddev(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    return (t.ta("STDDEV", t.close, timeperiod=period),)


def _histvol(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    returns = log(ratio(t.close, t.lag(t.close)))
    return (t.ta("STDDEV", returns, timeperiod=period) * (100.0 * t.bars_a_year**0.5),)


SPECS = (
    Spec(
        "atr",
        "Average true range",
        VOLATILITY,
        OWN,
        "Wilder's smoothing of the true range; begins with the mean of the first n.",
        atr,
        lambda period, _: period + 1,
        Period(14),
    ),
    Spec(
        "bbands",
        "Bollinger bands",
        VOLATILITY,
        PRICE,
        "SMA ± factor · standard deviation; width as a share of the middle.",
        _bbands,
        lambda period, _: period,
        Period(20, 2),
        {"num_std": 2.0},
        (*_BANDS, "bandwidth"),
    ),
    Spec(
        "keltner",
        "Keltner channel",
        VOLATILITY,
        PRICE,
        "EMA ± factor · ATR.",
        _keltner,
        lambda period, params: max(period, params["atr_period"] + 1),
        Period(20),
        {"atr_period": 10, "multiplier": 2.0},
        _BANDS,
    ),
    Spec(
        "donchian",
        "Donchian channel",
        VOLATILITY,
        PRICE,
        "Highest high, lowest low, and the middle between them.",
        _donchian,
        lambda period, _: period,
        Period(20),
        outputs=_BANDS,
    ),
    Spec(
        "stddev",
        "Standard deviation",
        VOLATILITY,
        OWN,
        "Of the last closes, of the population.",
        _stddev,
        lambda period, _: period,
        Period(20, 2),
    ),
    Spec(
        "histvol",
        "Historical volatility",
        VOLATILITY,
        OWN,
        "Standard deviation of the last n log returns, a year's (252 days of 6½ hours), in per cent.",
        _histvol,
        lambda period, _: period + 1,
        Period(20, 2),
    ),
)
