"""From a checked wish to a spec that can be run: files, parameters, bars, costs.

Owns: loading strategy files, which bars they need, what a run must remember to be run again.
Leaves: the wish (``wish``), reading (``data``), running (``engine``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from portfolio.arctic.client import get_ac
from strategies.bar_series import BarSeries
from strategies.data import names_library, resolve_universe
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
_FINEST_FIRST = ("5s", "1m", "5m", "1h", "1d")
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
    symbols: tuple[str, ...] = ()  # of an imperative strategy


def launch_of(wish: BacktestWish) -> Launch:
    """Load files and bars.

    Raises: LoadError, ConfigError (bad_params, bad_bars, bad_backtest), NotFoundError (no_bars), each naming the place.
    """
    members = [_member(one, wish) for one in wish.strategies]
    pairs = _pairs(members, wish)
    source = BarSource(wish.source, wish.adjust)
    symbols = list(
        dict.fromkeys([*(symbol for symbol, _ in pairs), *(one for member in members for one in member.symbols)])
    )
    base = wish.interval or _base(pairs, symbols, source)
    overrides = load_overrides()
    bars = _bars(pairs, symbols, base, wish, source, overrides)
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
    given, name = dict(one.params), one.name or loaded.path.stem
    if issubclass(loaded.cls, ReactiveStrategy):
        if wish.symbols and "symbols" not in given:
            given["symbols"] = list(wish.symbols)
        return _Member(name, loaded, validate_params(loaded, given), one.cash)
    if wish.symbols and "universe" not in given:
        given["universe"] = ",".join(wish.symbols)
    params = validate_params(loaded, given)
    symbols = _universe_of(name, params)
    # The run has no store: what a library holds today is written out.
    return _Member(name, loaded, params | {"universe": ",".join(symbols)}, one.cash, symbols)


def _universe_of(name: str, params: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the symbols that an imperative strategy trades.

    Raises: ConfigError (bad_backtest) without any; NotFoundError for a library that is not there.
    """
    universe = str(params.get("universe") or "")
    store = get_ac() if names_library(universe) else None
    symbols = tuple(resolve_universe(store, universe)) if universe else ()
    if not symbols:
        raise ConfigError(f"{name} names no universe; give --symbols.", code="bad_backtest")
    return symbols


def _pairs(members: list[_Member], wish: BacktestWish) -> list[Pair]:
    """Return what the strategies subscribe to, each pair once."""
    found: dict[Pair, None] = {}
    for member in members:
        cls = member.loaded.cls
        if issubclass(cls, ReactiveStrategy):
            made = cls(member.name, member.params)
            found |= dict.fromkeys((symbol, interval) for symbol, interval in made.get_subscriptions())
    if not found and not any(member.symbols for member in members):
        raise ConfigError(
            "No strategy subscribes to anything; give --symbols, or symbols in its parameters.", code="bad_backtest"
        )
    return list(found)


def _base(pairs: Sequence[Pair], symbols: Sequence[str], source: BarSource) -> str:
    """Return the finest interval that is subscribed to, or what it is made of where that alone is stored.

    Imperative strategies subscribe later, while they run: for them alone it is the finest that all symbols have.
    Raises: ConfigError (bad_backtest) where nothing tells it.
    """
    if not pairs:
        for interval in _FINEST_FIRST if not source.is_file else ():
            if all(source.has(symbol, interval) for symbol in symbols):
                return interval
        raise ConfigError(
            f"Which bars {', '.join(symbols)} have is not told by {source.source}; give --interval."
            if source.is_file
            else f"{', '.join(symbols)} have no bars of one length ({', '.join(_FINEST_FIRST)} were looked for); "
            "give --interval.",
            code="bad_backtest",
        )
    finest = min((parse_interval(interval) for _, interval in pairs), key=lambda one: one.seconds)
    if all(source.has(symbol, finest.text) for symbol, _ in pairs):
        return finest.text
    return finest.base


def _bars(
    pairs: Sequence[Pair],
    symbols: Sequence[str],
    base: str,
    wish: BacktestWish,
    source: BarSource,
    overrides: Overrides,
) -> Mapping[Pair, BarSeries]:
    """Return the base bars of every symbol, and what is subscribed to beside them, made of these."""
    first = wish.start - timedelta(days=wish.warm_up_days)
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
        symbols=member.symbols,
    )
