"""From a checked wish to a spec that can be run: files, parameters, bars, costs.

Owns: loading strategy files, which bars they need, what a run must remember to be run again.
Leaves: the wish (``wish``), reading (``data``), running (``engine``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from strategies.bar_series import BarSeries
from strategies.exceptions import ConfigError
from strategies.intervals import parse_interval
from strategies.loader import LoadedStrategy, load_strategy_class
from strategies.params import validate_params
from strategies.reactive import ReactiveStrategy
from trading.backtest.contracts import (
    BacktestSpec,
    InstrumentTerms,
    Models,
    NoFees,
    NoSlippage,
    SlippageModel,
    StrategyEntry,
)
from trading.backtest.data import BarSource
from trading.backtest.sessions import sessions_around
from trading.backtest.wish import BacktestWish, CostWish, StrategyWish
from trading.brokers.fees import FixedStockFees, TieredStockFees
from trading.market.calendar_rows import load_overrides
from trading.market.calendars import Overrides
from trading.market.derived import derive

FEES = {"fixed": FixedStockFees, "tiered": TieredStockFees, "none": NoFees}
_BASIS = Decimal(10_000)
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Slippage:
    """Fill worse by a share of the price. Units: hundredths of a per cent."""

    bps: Decimal

    def worsen(self, price: Decimal, is_buy: bool) -> Decimal:
        """Return the price that is paid."""
        step = price * self.bps / _BASIS
        return price + step if is_buy else price - step


@dataclass(frozen=True, slots=True)
class Launch:
    """A spec, and what the run's record keeps of its making."""

    spec: BacktestSpec
    strategies: list[dict[str, Any]]
    symbols: list[str]
    interval: str
    data_versions: dict[str, str]
    notes: list[str]  # what a reader of the figures must know of the data


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    loaded: LoadedStrategy
    params: dict[str, Any]
    cash: Decimal


def launch_of(wish: BacktestWish) -> Launch:
    """Load files and bars.

    Raises: LoadError, ConfigError (bad_params, bad_bars, bad_backtest), NotFoundError (no_bars), each naming the place.
    """
    members = [_member(one, wish) for one in wish.strategies]
    pairs = _pairs(members, wish)
    source = BarSource(wish.source, wish.adjust)
    base = wish.interval or _base(pairs, source)
    overrides = load_overrides()
    bars = _bars(pairs, base, wish, source, overrides)
    spec = BacktestSpec(
        strategies=[_entry(member) for member in members],
        bars=bars,
        start=wish.start,
        end=wish.end,
        models=models_of(wish.costs),
        instruments={symbol: InstrumentTerms(symbol, tick=wish.costs.tick) for symbol, _ in bars},
        overrides=overrides,
        seed=wish.seed,
    )
    made = [
        {
            "name": member.name,
            "file": member.loaded.path.name,
            "sha256": member.loaded.sha256,
            "kind": member.loaded.kind,
            "params": member.params,
            "cash": str(member.cash),
        }
        for member in members
    ]
    return Launch(spec, made, sorted({symbol for symbol, _ in bars}), base, dict(source.versions), list(source.notes))


def models_of(costs: CostWish) -> Models:
    """Return the models that a wish names."""
    slippage: SlippageModel = Slippage(costs.slippage_bps) if costs.slippage_bps else NoSlippage()
    return Models(
        fees=FEES[costs.fees](),
        slippage=slippage,
        participation=costs.participation,
        half_spread=costs.half_spread,
        allow_short=costs.allow_short,
        check_cash=costs.check_cash,
    )


def _member(one: StrategyWish, wish: BacktestWish) -> _Member:
    loaded = load_strategy_class(one.file)
    given = dict(one.params)
    if wish.symbols and "symbols" not in given and issubclass(loaded.cls, ReactiveStrategy):
        given["symbols"] = list(wish.symbols)
    return _Member(one.name or loaded.path.stem, loaded, validate_params(loaded, given), one.cash)


def _pairs(members: list[_Member], wish: BacktestWish) -> list[Pair]:
    """Return what the strategies subscribe to, each pair once."""
    found: dict[Pair, None] = {}
    for member in members:
        if not issubclass(member.loaded.cls, ReactiveStrategy):
            raise ConfigError(
                f"{member.loaded.path.name} is an imperative strategy; this runs reactive ones.", code="bad_backtest"
            )
        made = member.loaded.cls(member.name, member.params)
        found |= dict.fromkeys((symbol, interval) for symbol, interval in made.get_subscriptions())
    if not found:
        raise ConfigError(
            "No strategy subscribes to anything; give --symbols, or symbols in its parameters.", code="bad_backtest"
        )
    return list(found)


def _base(pairs: list[Pair], source: BarSource) -> str:
    """Return the finest interval that is subscribed to, or what it is made of where that alone is stored."""
    finest = min((parse_interval(interval) for _, interval in pairs), key=lambda one: one.seconds)
    if all(source.has(symbol, finest.text) for symbol, _ in pairs):
        return finest.text
    return finest.base


def _bars(
    pairs: list[Pair], base: str, wish: BacktestWish, source: BarSource, overrides: Overrides
) -> Mapping[Pair, BarSeries]:
    """Return the base bars of every symbol, and what is subscribed to beside them, made of these."""
    first = wish.start - timedelta(days=wish.warm_up_days)
    symbols = dict.fromkeys(symbol for symbol, _ in pairs)
    bars = {(symbol, base): source.series(symbol, base, first, wish.end) for symbol in symbols}
    for symbol, interval in pairs:
        if (symbol, interval) not in bars:
            starts, columns = bars[symbol, base].whole()
            table = sessions_around(InstrumentTerms(symbol).exchange, starts, overrides)
            made = derive(starts, columns, parse_interval(base), parse_interval(interval), table)
            bars[symbol, interval] = BarSeries.from_columns(symbol, interval, *made)
    return bars


def _entry(member: _Member) -> StrategyEntry:
    return StrategyEntry(
        name=member.name,
        kind=member.loaded.kind,
        make=member.loaded.cls,
        config=member.params,
        cash=member.cash,
        code_hash=member.loaded.sha256,
    )
