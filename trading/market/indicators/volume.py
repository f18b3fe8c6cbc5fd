"""Indicators of the volume. OBV and PVT begin anew with each session; on days and weeks they run on."""

from __future__ import annotations

from trading.market.indicators.sites import Number
from trading.market.indicators.spec import OWN, VOLUME, Params, Period, Spec
from trading.market.indicators.tools import Tools, known_or, ratio, where


def _obv(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    change = t.close - t.session_lag(t.close)
    signed = where(change > 0, t.volume, where(change < 0, -t.volume, t.nothing()))
    return (t.session_total(signed),)


def _pvt(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    before = t.session_lag(t.close)
    return (t.session_total(known_or(ratio(t.close - before, before) * t.volume, 0.0)),)


def volume_sma(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    """Return the mean volume."""
    return (t.ta("SMA", t.volume, timeperiod=period),)


def _volume_ratio(t: Tools, period: int, params: Params) -> tuple[Number, ...]:
    return (ratio(t.volume, t.ta("SMA", t.volume, timeperiod=period)),)


SPECS = (
    Spec(
        "obv",
        "On-balance volume",
        "volume",
        OWN,
        "Σ volume of bars that rose − Σ volume of bars that fell, since the session began.",
        _obv,
        lambda *_: 1,
    ),
    Spec(
        "pvt",
        "Price-volume trend",
        "volume",
        OWN,
        "Σ volume · relative change of the close, since the session began.",
        _pvt,
        lambda *_: 1,
    ),
    Spec(
        "volume_sma",
        "Average volume of bars",
        "volume",
        VOLUME,
        "Mean of the last volumes.",
        volume_sma,
        lambda period, _: period,
        Period(20),
    ),
    Spec(
        "volume_ratio",
        "Volume ratio",
        "volume",
        OWN,
        "Volume ÷ mean of the last volumes, this one included; unknown where nothing was traded.",
        _volume_ratio,
        lambda period, _: period,
        Period(20),
    ),
)
