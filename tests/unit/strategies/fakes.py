"""A small IB, broker and engine for strategies: real events and loops, no sockets."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from eventkit import Event
from ib_async import Contract, Fill, Order, RealTimeBar, RealTimeBarList, Trade

from portfolio.ledger.fx import Converted, Rates
from strategies.base import BaseStrategy
from strategies.events import QueueMessage
from strategies.ports import StrategyPosition
from strategies.series_names import Listing
from strategies.sizing import multiplier_of

DEADLINE_S = 10.0
CON_IDS = {"SPY": 756733, "TNA": 1, "TLT": 2, "AAPL": 265598}


def wait_until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for a condition with a deadline; fail loudly when it never comes."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"never happened: {what or condition}")
        time.sleep(0.002)


class FakeIB:
    """What a strategy uses of ib_async's IB."""

    def __init__(self) -> None:
        self.disconnectedEvent = Event("disconnectedEvent")
        self.execDetailsEvent = Event("execDetailsEvent")
        self.orderStatusEvent = Event("orderStatusEvent")
        self.connected = True
        self.disconnects = 0
        self.subscriptions: list[RealTimeBarList] = []
        self.history: list[Any] = []
        self.history_requests: list[tuple[Any, ...]] = []
        self.price = 100.0

    def isConnected(self) -> bool:
        return self.connected

    def disconnect(self) -> None:
        self.connected = False
        self.disconnects += 1

    async def qualifyContractsAsync(self, *contracts: Contract) -> list[Contract | None]:
        return [self._qualified(contract) for contract in contracts]

    def _qualified(self, contract: Contract) -> Contract | None:
        con_id = contract.conId or CON_IDS.get(contract.symbol, 0)
        symbol = contract.symbol or next((s for s, i in CON_IDS.items() if i == con_id), "")
        if not con_id:
            return None
        return Contract(conId=con_id, symbol=symbol, secType="STK", exchange="SMART", currency="USD")

    async def reqTickersAsync(self, *contracts: Contract) -> list[Any]:
        return [SimpleNamespace(marketPrice=lambda: self.price, close=self.price) for _ in contracts]

    async def reqHistoricalDataAsync(self, *args: Any, **_: Any) -> list[Any]:
        self.history_requests.append(args)
        return self.history

    def reqRealTimeBars(self, contract: Contract, *_: Any) -> RealTimeBarList:
        bars = RealTimeBarList()  # type: ignore[no-untyped-call]  # ib_async leaves it untyped
        bars.contract = contract
        self.subscriptions.append(bars)
        return bars

    def send_bar(self, symbol: str, close: float) -> None:
        for bars in self.subscriptions:
            if bars.contract.symbol == symbol:
                bars.append(RealTimeBar(time=datetime.now(UTC), open_=close, high=close, low=close, close=close))
                bars.updateEvent.emit(bars, True)


def history_bars(closes: Sequence[float], step: timedelta = timedelta(seconds=5)) -> list[Any]:
    """Bars as ib_async returns them, the last one just completed."""
    first = datetime.now(UTC) - step * len(closes)
    return [
        SimpleNamespace(date=first + i * step, open=c, high=c, low=c, close=c, volume=1.0) for i, c in enumerate(closes)
    ]


@dataclass
class FakeTicket:
    """A ticket that the test finishes."""

    order_ref: str
    contract: Contract
    order: Order
    trade: Trade = field(default_factory=Trade)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    reason: str = ""

    @property
    def is_done(self) -> bool:
        return self.done.is_set()

    async def wait_done(self, timeout: float | None = None) -> bool:
        try:
            await asyncio.wait_for(self.done.wait(), timeout)
        except TimeoutError:
            return False
        return True


class FakeBroker:
    """Keeps orders; fills them at once when told to."""

    def __init__(self, books: FakeBooks, symbol: str) -> None:
        self.books = books
        self.symbol = symbol
        self.tickets: list[FakeTicket] = []
        self.fills_at_once = True
        self.families: list[bool] = []
        self.quoted_in_pence = False

    async def place_order(self, contract: Contract, order: Order, *, owner: str, parent: Any = None) -> FakeTicket:
        number = len(self.tickets) + 1
        order.orderId = number
        order.parentId = parent.order.orderId if parent else 0
        ticket = FakeTicket(f"{owner}/{number}", contract, order)
        self.tickets.append(ticket)
        if self.fills_at_once:
            self.fill(ticket)
        return ticket

    async def place_family(
        self, orders: Sequence[tuple[Contract, Order]], *, owner: str, is_bracket: bool
    ) -> list[FakeTicket]:
        self.families.append(is_bracket)
        placed: list[FakeTicket] = []
        for contract, order in orders:
            parent = placed[0] if is_bracket and placed else None
            placed.append(await self.place_order(contract, order, owner=owner, parent=parent))
        return placed

    def fill(self, ticket: FakeTicket) -> None:
        sign = 1 if ticket.order.action == "BUY" else -1
        self.books.trade(ticket.contract, sign * Decimal(str(ticket.order.totalQuantity)))
        ticket.done.set()

    async def cancel_order(self, order_ref: str) -> None:
        next(ticket for ticket in self.tickets if ticket.order_ref == order_ref).done.set()

    async def modify_order(self, order_ref: str, **_: Any) -> None:
        raise NotImplementedError

    def point_value(self, contract: Contract) -> Decimal:
        return multiplier_of(contract) / (100 if self.quoted_in_pence else 1)

    async def get_positions(self) -> list[StrategyPosition]:
        return self.books.get_strategy_positions(self.symbol)

    async def get_equity(self) -> Decimal:
        return self.books.equity

    def open_tickets(self) -> list[FakeTicket]:
        return [ticket for ticket in self.tickets if not ticket.is_done]


class FakeFx:
    """Rates by what one unit of a currency is worth in dollars; none but the dollar's unless a test says so."""

    def __init__(self) -> None:
        self.dollars: dict[str, Decimal] = {}
        self.stale = False

    def convert(self, amount: Decimal, source: str, target: str, *, at: datetime | None = None) -> Decimal:
        return Rates("USD", self.dollars).convert(amount, source, target)

    def convert_flagged(self, amount: Decimal, source: str, target: str, *, at: datetime | None = None) -> Converted:
        return Converted(self.convert(amount, source, target), self.stale, at, "spot")


class FakeBooks:
    """Positions by contract, for one strategy."""

    base_currency = "USD"

    def __init__(self) -> None:
        self.held: dict[int, tuple[Contract, Decimal]] = {}
        self.equity = Decimal(10_000)
        self.net_liquidation: Decimal | None = Decimal(1_000_000)
        self.fx_cache = FakeFx()

    def trade(self, contract: Contract, quantity: Decimal) -> None:
        _, before = self.held.get(contract.conId, (contract, Decimal(0)))
        self.held[contract.conId] = (contract, before + quantity)

    def get_strategy_positions(self, strategy: str) -> list[StrategyPosition]:
        return [
            StrategyPosition(c.conId, c.symbol, "STK", "USD", quantity, Decimal(100), Decimal(1), Decimal(0))
            for c, quantity in self.held.values()
        ]

    def calculate_strategy_equity(self, strategy: str) -> Decimal:
        return self.equity

    def get_portfolio_summary(self) -> dict[str, Any]:
        return {"net_liquidation": self.net_liquidation}

    def get_daily_realized_pnl(self, strategy: str) -> Decimal:
        return Decimal(0)


class FakeQueue:
    """Keeps what was put."""

    def __init__(self) -> None:
        self.messages: list[QueueMessage] = []

    def put(self, message: QueueMessage, /) -> None:
        self.messages.append(message)


class FakeEngine:
    """Connects at once, or waits while ``may_connect`` is clear."""

    def __init__(self, ac: Any = None) -> None:
        self.ac = ac
        self.message_queue = FakeQueue()
        self.portfolio_manager = FakeBooks()
        self.ib = FakeIB()
        self.broker: FakeBroker | None = None
        self.may_connect = threading.Event()
        self.may_connect.set()
        self.connects = 0
        self.states: list[tuple[str, str]] = []
        self.traceback = ""
        self.beats = 0
        self.lines: list[tuple[str, str]] = []
        self.kept: list[tuple[str, str, int]] = []

    def keep_bars(
        self, series: str, timeframe: str, bars: Any, use_rth: bool, after: datetime | None, of: Listing
    ) -> None:
        self.kept.append((series, timeframe, len(bars)))

    async def connect_strategy(self, strategy: BaseStrategy) -> Any:
        while not self.may_connect.is_set():
            await asyncio.sleep(0.002)
        self.connects += 1
        self.ib.connected = True
        return self.ib

    def make_broker(self, strategy: BaseStrategy) -> FakeBroker:
        self.broker = FakeBroker(self.portfolio_manager, strategy.symbol)
        return self.broker

    def strategy_changed(self, strategy: Any, state: str, message: str = "", traceback: str = "") -> None:
        self.states.append((state, message))
        self.traceback = traceback or self.traceback

    def strategy_beat(self, strategy: Any) -> None:
        self.beats += 1

    def log(self, strategy_symbol: str, text: str, level: str = "info") -> None:
        self.lines.append((level, text))

    # -- what tests ask

    def state(self) -> str:
        return self.states[-1][0] if self.states else ""

    def orders(self) -> list[FakeTicket]:
        return list(self.broker.tickets) if self.broker else []

    def sends(self, contract_symbol: str, trade: Trade, fill: Fill) -> None:
        trade.contract.symbol = contract_symbol
        self.ib.execDetailsEvent.emit(trade, fill)
