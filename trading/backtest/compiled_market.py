"""The market of one symbol for the compiled loop, and whether the loop may run it.

Owns: turning prices, costs and cash into whole numbers, and refusing what would not be exact in them.
Leaves: the loop (``kernel``). Rule: what cannot be run exactly is not run here: the engine does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np
import numpy.typing as npt
from numba import njit

from strategies.bar_series import BarSeries
from strategies.exceptions import ConfigError
from trading.backtest.arrays import Track, terms_of_symbol
from trading.backtest.contracts import BacktestSpec, InstrumentTerms, Models, NoFees, NoSlippage, StrategyEntry
from trading.backtest.kernel import UNIT, Bars, Terms
from trading.brokers.fees import NO_REGULATORY_FEES, FixedStockFees
from trading.market.signal_rules import Gates, gates_of

_SCALES = (100, 10_000, 1_000_000)
_LARGEST = 4 * 10**18  # of a sum of money in units: half of what a whole number of the loop holds
_LARGEST_VOLUME = 4e12  # times the largest share's numerator that is below it
_LARGEST_PRICE = 1e15  # in the scale: so many digits a float tells apart
_LARGEST_TARGET = 2.0**52


class NotCompilableError(Exception):
    """The loop would not be exact; the message says why."""


@dataclass(frozen=True, slots=True)
class CompiledMarket:
    """One symbol's bars as the loop reads them. Rows ``first`` to ``last`` (excluded) are run."""

    track: Track
    terms: Terms
    scale: int
    begin_rows: npt.NDArray[np.int64]
    end_rows: npt.NDArray[np.int64]
    largest_price: float

    @property
    def series(self) -> BarSeries:
        """Return the bars."""
        return self.track.series

    @property
    def bars(self) -> Bars:
        """Return what the loop reads."""
        track = self.track
        _, (opens, _, _, closes, volumes) = track.series.whole()
        return Bars(
            opens, closes, volumes, track.starts, track.ends, self.begin_rows, self.end_rows, track.sessions.closes
        )

    def for_entry(self, spec: BacktestSpec, entry: StrategyEntry) -> CompiledMarket:
        """Return the same market for other parameters of the strategy.

        Raises: NotCompilableError; ConfigError (bad_gates).
        """
        gates = check_entry(spec, entry, self.series.symbol)
        if gates.allow_short == self.terms.allow_short:
            return self
        return replace(self, terms=self.terms._replace(allow_short=gates.allow_short))

    def check_targets(self, targets: npt.NDArray[np.float64], name: str) -> None:
        """Refuse targets that are not one for each bar, or infinite.

        Raises: ConfigError (bad_targets); NotCompilableError for parts of a unit, and sums beyond the loop's numbers.
        """
        rows = len(self.track.starts)
        if targets.dtype != np.float64 or targets.shape != (rows,):
            raise ConfigError(
                f"{name}: targets are one float64 for each of {rows} bars, not {targets.dtype} {targets.shape}.",
                code="bad_targets",
            )
        whole, largest = survey_targets(targets)
        if not np.isfinite(largest):
            raise ConfigError(f"{name}: a target is infinite.", code="bad_targets")
        if not whole:
            raise NotCompilableError("targets have parts of a unit")
        if self._is_too_large(largest):
            raise NotCompilableError("the sums are too large")

    def check_equity(self, last: float, highest: float, drawdown: float) -> None:
        """Refuse a run whose equity left what the loop counts with, in its units.

        Raises: NotCompilableError.
        """
        if max(abs(last), highest, highest * (drawdown - 1.0)) > _LARGEST:
            raise NotCompilableError("the equity is too large")

    def _is_too_large(self, target: float) -> bool:
        """Tell whether a position of this size might lead beyond the loop's numbers; turning it trades it twice."""
        terms = self.terms
        worth = 2.0 * target * self.largest_price * terms.unit * terms.scale * max(terms.most_num, 1)
        fee = max(2.0 * target * terms.per_unit, terms.minimum) * max(terms.most_den, 1)
        return max(worth, fee) > _LARGEST or target > _LARGEST_TARGET


@njit(cache=True, nogil=True)
def survey_targets(targets: npt.NDArray[np.float64]) -> tuple[bool, float]:
    """Whether all targets are whole, and the largest without its sign."""
    whole, largest = True, 0.0
    for value in targets:
        if value == value:
            size = abs(value)
            largest = max(largest, size)
            if size != np.floor(size):
                whole = False
    return whole, largest


@njit(cache=True, nogil=True)
def is_exact(prices: npt.NDArray[np.float64], scale: int) -> bool:
    """Whether every price is the float that is nearest to a whole number of ``1 / scale``, and to no other."""
    for price in prices:
        units = np.rint(price * scale)
        if units / scale != price or abs(units) >= _LARGEST_PRICE:
            return False
    return True


@njit(cache=True, nogil=True)
def has_whole_volumes(volumes: npt.NDArray[np.float64]) -> bool:
    """Whether every volume is a whole number that can be counted with."""
    return bool(((volumes == np.floor(volumes)) & (volumes < _LARGEST_VOLUME)).all())


def check_entry(spec: BacktestSpec, entry: StrategyEntry, symbol: str) -> Gates:
    """Return a strategy's gates; refuse those that the loop does not know, and costs that it does not know.

    Raises: NotCompilableError; ConfigError (bad_gates).
    """
    terms, models = terms_of_symbol(spec, symbol), spec.models
    gates = entry.gates or gates_of(entry.config, allow_short=models.allow_short)
    schedule = terms.fees if terms.fees is not None else models.fees
    known = type(schedule) is NoFees or (type(schedule) is FixedStockFees and schedule.regulatory == NO_REGULATORY_FEES)
    reasons = (
        (gates.are_tight, "the strategy has bounds"),
        (type(models.slippage) is not NoSlippage, "there is slippage"),
        (not known, "the fees are of another schedule"),
        (bool(spec.actions), "there are splits or dividends"),
        (terms.lot != 1, "lots are not of one unit"),
        (terms.multiplier != terms.multiplier.to_integral_value(), "the multiplier is not whole"),
        (terms.may_be_negative, "prices may be negative"),
    )
    for stands, text in reasons:
        if stands:
            raise NotCompilableError(text)
    return gates


def compile_market(spec: BacktestSpec, entry: StrategyEntry, track: Track) -> CompiledMarket:
    """Return the market of a base series in whole numbers.

    Raises: NotCompilableError with the reason.
    """
    symbol = track.series.symbol
    gates = check_entry(spec, entry, symbol)
    terms, models = terms_of_symbol(spec, symbol), spec.models
    _, (opens, highs, _, closes, volumes) = track.series.whole()
    scale = _scale([opens, closes], models.half_spread)
    unlimited = models.participation is None or not volumes.any()
    if not unlimited and not has_whole_volumes(volumes):
        raise NotCompilableError("volumes have parts of a unit, or are too large")
    sessions = track.sessions
    return CompiledMarket(
        track,
        _terms(terms, models, gates, scale, unlimited=unlimited),
        scale,
        track.starts.searchsorted(sessions.opens).astype(np.int64),
        track.starts.searchsorted(sessions.closes).astype(np.int64),
        float(highs.max()) + float(models.half_spread),
    )


def _scale(columns: Sequence[npt.NDArray[np.float64]], half: Decimal) -> int:
    for scale in _SCALES:
        if all(is_exact(column, scale) for column in columns) and half * scale == int(half * scale):
            return scale
    raise NotCompilableError("prices have more than six decimals, or too many digits")


def _terms(terms: InstrumentTerms, models: Models, gates: Gates, scale: int, *, unlimited: bool) -> Terms:
    share_num, share_den = (0, 1) if unlimited else (models.participation or Decimal(1)).as_integer_ratio()
    schedule = terms.fees if terms.fees is not None else models.fees
    fees = (0, 0, 0, 0)
    if isinstance(schedule, FixedStockFees):
        most_num, most_den = schedule.maximum_share.as_integer_ratio()
        fees = money_units(schedule.per_share), money_units(schedule.minimum), most_num, most_den
        if UNIT // scale * most_num % most_den or most_num > most_den:
            raise NotCompilableError("a fee's largest share of the value has too many decimals, or is more than all")
    if max(share_num, share_den) > 10**6:
        raise NotCompilableError("the share of the volume has too many decimals")
    unit = UNIT // scale * int(terms.multiplier)
    half = int(models.half_spread * scale)
    return Terms(scale, unit, half, share_num, share_den, gates.allow_short, models.check_cash, *fees)


def money_units(amount: Decimal) -> int:
    """Return an amount in the loop's units.

    Raises: NotCompilableError for more than eight decimals, or more than it can count.
    """
    units = amount * UNIT
    if units != units.to_integral_value():
        raise NotCompilableError(f"{amount} has more than eight decimals")
    if abs(units) > _LARGEST:
        raise NotCompilableError(f"{amount} is too large")
    return int(units)
