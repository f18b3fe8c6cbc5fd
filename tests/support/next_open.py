"""Fills at the next bar's open: the smallest venue under which a session's signals become positions and cash."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from strategies.reactive import ReactiveStrategy, Signal, StrategyContext
from tests.support.reactive import StandingData
from trading.market.signal_executor import SignalExecutor
from trading.market.signal_rules import Gates, KnownFacts, Plan
from trading.market.strategy_thread import SignalSink


@dataclass
class Books:
    """One strategy's positions and cash; orders wait for the next bar of their symbol."""

    data: StandingData
    cash: Decimal = Decimal(100_000)
    held: dict[str, Decimal] = field(default_factory=dict)
    waiting: dict[str, tuple[int, Decimal]] = field(default_factory=dict)  # symbol → bars seen when placed, quantity
    fills: list[tuple[str, int, Decimal, Decimal]] = field(default_factory=list)  # symbol, start, quantity, price

    def settle(self, symbol: str) -> None:
        """Fill what waits for a symbol at the open of the first minute after it was placed."""
        placed = self.waiting.get(symbol)
        minutes = self.data.get_bars_ref(symbol, "1m")
        if placed is None or len(minutes) <= placed[0]:
            return
        _, quantity = self.waiting.pop(symbol)
        bar = minutes[placed[0]]
        price = Decimal(str(bar.open))
        self.held[symbol] = self.held.get(symbol, Decimal(0)) + quantity
        self.cash -= quantity * price
        self.fills.append((symbol, bar.start_ns, quantity, price))

    # -- the executor's port

    async def facts(self, symbol: str, interval: str, gates: Gates) -> KnownFacts:
        self.settle(symbol)
        quantity = self.waiting.get(symbol, (0, Decimal(0)))[1]
        return KnownFacts(
            held=self.held.get(symbol, Decimal(0)),
            buying=max(quantity, Decimal(0)),
            selling=max(-quantity, Decimal(0)),
            price=Decimal(str(self.data.get_bars_ref(symbol, interval)[-1].close)),
            equity=self.cash,
            quality=self.data.get_bar_quality(symbol, interval),
        )

    async def withdraw(self, symbol: str, *, exits_only: bool) -> None:
        if not exits_only:
            self.waiting.pop(symbol, None)

    async def has_exits(self, symbol: str) -> bool:
        return False

    async def shrink_exits(self, symbol: str, quantity: Decimal) -> None:
        raise AssertionError("there are no exits here")

    async def place(self, symbol: str, plan: Plan, signal: Signal) -> None:
        self.waiting[symbol] = (len(self.data.get_bars_ref(symbol, "1m")), plan.quantity)


@dataclass
class Venue:
    """Makes an executor for each strategy of a session and keeps what came of its signals."""

    data: StandingData
    gates: Gates = field(default_factory=lambda: Gates(fraction=Decimal("0.1")))
    books: dict[str, Books] = field(default_factory=dict)
    executors: dict[str, SignalExecutor] = field(default_factory=dict)
    signals: dict[str, list[Signal]] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def __call__(self, strategy: ReactiveStrategy, context: StrategyContext) -> SignalSink:
        books = self.books[strategy.name] = Books(self.data)
        executor = self.executors[strategy.name] = SignalExecutor(
            strategy.name, books, self.gates, lambda text, level: self.told.append(text)
        )
        kept = self.signals[strategy.name] = []

        def sink(symbol: str, interval: str, signals: Sequence[Signal]) -> None:
            kept.extend(signals)
            asyncio.run(executor.execute(interval, signals))

        return sink
