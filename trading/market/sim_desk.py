"""The simulated broker of a session on stored bars: the backtest's books and matching, fed bar by bar.

Owns: which symbols there are lanes for, the order in which signals of several strategies count, what pages are told of
money. Leaves: fills, orders, books, rules (``trading.backtest``, ``signal_rules``), when bars come (``coordinator``).
Rule: strategies decide on threads of their own, so their signals only wait here; the coordinator settles them after all
were heard, in the order of the configuration, so that a session gives the same fills however threads ran.
Threads: ``take`` by strategies, everything else by the coordinator.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np

from strategies.bar_series import BarSeries
from strategies.exceptions import ConfigError
from strategies.intervals import parse_interval
from strategies.reactive import ReactiveStrategy, Signal, StrategyContext
from trading.backtest.arrays import Track
from trading.backtest.book import Holding
from trading.backtest.contracts import BacktestFill, BacktestOrder, InstrumentTerms, Models, NoSlippage, StrategyEntry
from trading.backtest.desk import Desk
from trading.backtest.executor import Executor
from trading.backtest.lane import HasQuality, Lane
from trading.backtest.outcome import named_rows
from trading.backtest.sessions import edges, sessions_around
from trading.brokers.fees import FixedStockFees
from trading.market.calendars import NO_OVERRIDES, Overrides
from trading.market.session_gates import session_gates
from trading.market.session_parts import BacktestConfig, SessionConfig
from trading.market.strategy_thread import SignalSink

ZERO = Decimal(0)
_BASIS_POINT = Decimal("0.0001")
_NO_MINIMUM = Decimal(0)


@dataclass(frozen=True, slots=True)
class BasisPoints:
    """Slippage as a share of the price."""

    bps: Decimal

    def worsen(self, price: Decimal, is_buy: bool) -> Decimal:
        """Return the price that is paid."""
        shift = price * self.bps * _BASIS_POINT
        return price + shift if is_buy else price - shift


def models_of(backtest: BacktestConfig) -> Models:
    """Return the costs that a session's configuration asks for."""
    per_share = backtest.commission_per_share
    fees = FixedStockFees() if per_share is None else FixedStockFees(per_share, _NO_MINIMUM, Decimal(1))
    slippage = BasisPoints(backtest.slippage_bps) if backtest.slippage_bps else NoSlippage()
    return Models(fees=fees, slippage=slippage, allow_short=backtest.allow_short)


class _Quality:
    """How whole the bars are that orders meet, as the session's data have it."""

    def __init__(self) -> None:
        self.data: HasQuality | None = None

    def get_bar_quality(self, symbol: str, interval: str) -> float:
        """Return it in per cent, 0 before there are data."""
        return 0.0 if self.data is None else self.data.get_bar_quality(symbol, interval)


class SimulatedDesk:
    """Takes signals, gives fills."""

    def __init__(self, config: SessionConfig, overrides: Overrides = NO_OVERRIDES) -> None:
        if config.backtest_config is None:
            raise ConfigError("A simulated broker belongs to a backtest.", code="no_backtest_config")
        self._desk = Desk(models_of(config.backtest_config))
        self._trading, self._exchange, self._overrides = config.trading_config, config.exchange_group, overrides
        self._quality = _Quality()
        self._lanes: dict[str, Lane] = {}
        self._executors: dict[str, Executor] = {}
        self._waiting: dict[str, deque[Sequence[Signal]]] = {}
        self._lock = threading.Lock()
        entries = [entry for entry in config.session_data_config.strategies if entry.enabled]
        self._cash = config.backtest_config.initial_capital / max(len(entries), 1)

    def follow(self, data: HasQuality) -> None:
        """Ask these data how complete bars are."""
        self._quality.data = data

    # -- symbols and strategies

    def add_symbol(self, symbol: str, interval: str, bars: BarSeries, seen_ns: int) -> None:
        """Trade a symbol on its base bars, laid out to the end of the session; those that end by ``seen_ns`` are past.

        Twice is harmless.
        """
        if symbol in self._lanes:
            return
        terms = InstrumentTerms(symbol, exchange=self._exchange)
        track = _track(terms, interval, bars, self._overrides)
        lane = Lane(track, terms, self._desk, self._quality)
        lane.row = lane.series.count = int(np.searchsorted(track.ends, seen_ns, side="right"))
        self._lanes[symbol] = lane
        for executor in self._executors.values():
            executor.holdings[symbol] = Holding(executor.book, lane)
            executor.keep_currency(self._lanes)

    def sink_for(self, strategy: ReactiveStrategy, context: StrategyContext) -> SignalSink:
        """Return what takes a strategy's signals; its books live through all days of the session."""
        name = strategy.name
        if name not in self._executors:
            entry = StrategyEntry(name, "reactive", type(strategy), strategy.config, self._cash)
            executor = self._executors[name] = Executor(entry, self._lanes, self._desk)
            allow_short = self._desk.models.allow_short
            executor.keep_currency(self._lanes)
            executor.gates = session_gates(strategy.config, self._trading, allow_short=allow_short)
            self._waiting[name] = deque()
        return partial(self.take, name)

    def take(self, name: str, symbol: str, interval: str, signals: Sequence[Signal]) -> None:
        """Keep what a strategy answered; on its own thread."""
        with self._lock:
            self._waiting[name].append(signals)

    # -- time

    def meet(self, now_ns: int, symbols: Iterable[str]) -> None:
        """Let the bars of symbols that end now meet the orders that were there before."""
        self._desk.at += 1
        self._desk.now_ns = now_ns
        for symbol in symbols:
            lane = self._lanes.get(symbol)
            if lane is None:
                continue
            ends = lane.track.ends
            while lane.row < len(ends) and ends[lane.row] <= now_ns:
                row = lane.row
                if lane.working:
                    lane.match(row)
                lane.row = lane.series.count = row + 1

    def settle(self, now_ns: int) -> int:
        """Turn the signals that wait into orders, strategy by strategy; return how many there were."""
        self._desk.now_ns = now_ns
        count = 0
        for name, executor in self._executors.items():
            with self._lock:
                waiting, self._waiting[name] = self._waiting[name], deque()
            for signals in waiting:
                executor.take(signals)
                count += len(signals)
        return count

    def expire(self, now_ns: int) -> None:
        """End the orders that are over by now."""
        for lane in self._lanes.values():
            lane.expire(now_ns)

    # -- what is known

    def is_locked(self, symbol: str) -> bool:
        """Tell whether a position or an order holds a symbol."""
        holdings = [executor.holdings.get(symbol) for executor in self._executors.values()]
        return any(one is not None and bool(one.held or one.orders or one.exits) for one in holdings)

    @property
    def fills(self) -> list[BacktestFill]:
        """Return all fills, oldest first."""
        return named_rows(self._desk)[0]

    def orders(self) -> list[BacktestOrder]:
        """Return all orders by number, those that work as open."""
        working = [
            BacktestOrder(*order.record("open", None)) for lane in self._lanes.values() for order in lane.working
        ]
        return sorted([*named_rows(self._desk)[1], *working], key=lambda order: order.order_id)

    def figures(self) -> dict[str, dict[str, Any]]:
        """Return money and orders by strategy, JSON-able: decimals as text."""
        found: dict[str, dict[str, Any]] = {}
        for name, executor in self._executors.items():
            book = executor.book
            held = {symbol: f"{one.held:f}" for symbol, one in executor.holdings.items() if one.held}
            found[name] = {
                "equity": f"{book.equity():.2f}",
                "cash": f"{book.cash:.2f}",
                "realized": f"{book.realized:.2f}",
                "fees": f"{book.fees:.2f}",
                "positions": held,
                "fills": 0,
                "denied": 0,
                "last_refusal": "",
            }
        fills, orders = named_rows(self._desk)
        for fill in fills:
            found[fill.strategy]["fills"] += 1
        for order in orders:
            if order.state == "denied":
                row = found[order.strategy]
                row["denied"] += 1
                row["last_refusal"] = f"{order.side} {order.quantity:f} {order.symbol}: {order.reason}"
        return found


def _track(terms: InstrumentTerms, interval: str, bars: BarSeries, overrides: Overrides) -> Track:
    """Return a series of its own for the lane: its cursor is not that of the session's data."""
    stamps, columns = bars.whole()
    name = f"{terms.symbol} {interval}"
    if not len(stamps):
        raise ConfigError(f"There are no stored bars of {name}.", code="no_bars")
    if columns[2].min() <= 0:
        raise ConfigError(f"{name} has a bar with a price that is not above zero.", code="bad_bars")
    series = BarSeries.from_columns(terms.symbol, interval, stamps, columns)
    length = parse_interval(interval)
    sessions = sessions_around(terms.exchange, stamps, overrides)
    begins, ends = edges(length, stamps, sessions)
    return Track(series, length, sessions, begins, ends, 0, len(stamps), is_base=True)
