"""What a spec must be before it is run: refused with the place and the reason.

Owns: checks of models, instruments, prices and cash. Leaves: bars and periods (``arrays``), subscriptions (``runner``).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from strategies.bar_series import moment_of
from strategies.exceptions import ConfigError
from trading.backtest.arrays import Track, terms_of_symbol
from trading.backtest.contracts import BacktestSpec, InstrumentTerms, Models

ZERO = Decimal(0)


def check_spec(spec: BacktestSpec, tracks: Sequence[Track]) -> None:
    """Refuse what would give wrong numbers.

    Raises: ConfigError (bad_models, bad_terms, bad_bars, bad_cash, bad_strategy).
    """
    _check_models(spec.models)
    for symbol in dict.fromkeys(track.series.symbol for track in tracks):
        _check_terms(symbol, terms_of_symbol(spec, symbol))
    for track in tracks:
        if track.is_base and not terms_of_symbol(spec, track.series.symbol).may_be_negative:
            _check_prices(track)
    names = [entry.name for entry in spec.strategies]
    if len(set(names)) < len(names):
        raise ConfigError(f"Strategies of one run need names of their own: {', '.join(names)}.", code="bad_strategy")
    for entry in spec.strategies:
        if not entry.cash.is_finite() or entry.cash < 0:
            raise ConfigError(f"{entry.name} would start with {entry.cash} of cash.", code="bad_cash")


def _check_models(models: Models) -> None:
    share, half = models.participation, models.half_spread
    if share is not None and not (share.is_finite() and 0 < share <= 1):
        raise ConfigError(
            f"participation is {share}; it is a share of the volume above 0 and not above 1, or None.",
            code="bad_models",
        )
    if not half.is_finite() or half < 0:
        raise ConfigError(f"half_spread is {half}; it is a distance, not below 0.", code="bad_models")


def _check_terms(symbol: str, terms: InstrumentTerms) -> None:
    for name, value in (("multiplier", terms.multiplier), ("lot", terms.lot), ("tick", terms.tick)):
        if value is not None and not (value.is_finite() and value > 0):
            raise ConfigError(f"The {name} of {symbol} is {value}; it must be above zero.", code="bad_terms")


def _check_prices(track: Track) -> None:
    starts, (_, _, lows, _, _) = track.series.whole()
    if lows.min() > 0:
        return
    row = int(np.flatnonzero(lows <= 0)[0])
    raise ConfigError(
        f"{track.series.symbol} {track.series.interval}: the bar of {moment_of(int(starts[row])):%Y-%m-%d %H:%M:%S}Z "
        f"(row {row}) has a price of {lows[row]:g}; where that is right, its terms say may_be_negative.",
        code="bad_bars",
        row=row,
    )
