"""BacktestBroker: one imperative strategy's orders, on the desk of a run.

Owns: tickets, and the orders of ib_async as the terms that every order has. Leaves: fills, fees and books (the desk,
as for reactive strategies), when an order meets the market (``backtest.lane``).
Rule: simulated only: it knows no connection and no table. What the run cannot do is refused by name; an order that it
would have worked differently than IB is worse than none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

from ib_async import CommissionReport, Contract, Execution, Fill, Order, OrderStatus, Trade

from strategies.bar_series import moment_of
from strategies.exceptions import OrderDeniedError, OrderRefusedError
from strategies.order_types import Terms, check_terms
from strategies.ports import StrategyPosition, Ticket
from strategies.sizing import to_decimal
from trading.backtest.book import Holding
from trading.backtest.contracts import BacktestOrder
from trading.backtest.desk import Desk
from trading.backtest.executor import Executor, highest_price
from trading.backtest.orders import Exit, WorkingOrder
from trading.backtest.run_books import position_of
from trading.brokers.fees import Traded
from trading.ib.mapping import to_optional_decimal
from trading.market.signal_rules import opening_part

ZERO = Decimal(0)
_STATUS = {"filled": "Filled", "cancelled": "Cancelled", "expired": "Cancelled"}
_WHY_EXPIRED = "Its time in force ended."


class World(Protocol):
    """What a broker needs of its run."""

    @property
    def now_ns(self) -> int:
        """Return the present in epoch nanoseconds."""

    def symbol_of(self, contract: Contract) -> str | None:
        """Return the run's symbol of a contract, None for one that it has no bars of."""

    def contract_of(self, symbol: str) -> Contract:
        """Return the whole contract of a symbol."""

    def tell_fill(self, strategy: str, trade: Trade, fill: Fill) -> None:
        """Pass an execution on to the strategy's hooks."""

    def tell_status(self, strategy: str, trade: Trade) -> None:
        """Pass a status on to the strategy's hooks."""


class BacktestTicket:
    """One order in the hands of its strategy; implements ``strategies.ports.Ticket`` and is told by the desk."""

    def __init__(self, broker: BacktestBroker, order_ref: str, contract: Contract, order: Order) -> None:
        self.working: WorkingOrder | None = None  # None before an exit's entry filled
        self.children: list[BacktestTicket] = []
        self.group: list[BacktestTicket] = []  # of which one's fill cancels the others
        self.filled_quantity = self.value = ZERO
        self._broker = broker
        self._order_ref, self._contract, self._order = order_ref, contract, order
        self._reason = ""
        self._trade = Trade(contract, order, OrderStatus(orderId=order.orderId, status="PreSubmitted"))
        self._done = asyncio.Event()

    def __repr__(self) -> str:
        return f"BacktestTicket({self._order_ref}, {self._trade.orderStatus.status}, {self.filled_quantity:f})"

    @property
    def order_ref(self) -> str:
        """Return our own reference."""
        return self._order_ref

    @property
    def contract(self) -> Contract:
        """Return the whole contract."""
        return self._contract

    @property
    def order(self) -> Order:
        """Return the order as it was placed, with what was changed since."""
        return self._order

    @property
    def trade(self) -> Trade:
        """Return the order in ib_async's words, kept up to date."""
        return self._trade

    @property
    def is_done(self) -> bool:
        """Tell whether the order is final."""
        return self._done.is_set()

    @property
    def reason(self) -> str:
        """Return why it was cancelled; empty otherwise."""
        return self._reason

    async def wait_done(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - the seeds' signature
        """Wait until final; return False when ``timeout`` seconds of the run's time passed first."""
        try:
            await asyncio.wait_for(self._done.wait(), timeout)
        except TimeoutError:
            return False
        return True

    # -- what the desk tells

    def began(self, order: WorkingOrder) -> None:
        """Take in that an exit works now."""
        self.working = order
        if order.quantity != to_decimal(self._order.totalQuantity):
            self.resized(order.quantity)
        self._tell("Submitted")

    def filled(self, quantity: Decimal, price: Decimal, fee: Decimal, time_ns: int) -> None:
        """Take an execution in, pass it on, and cancel the others of its group."""
        self.filled_quantity += quantity
        self.value += quantity * price
        status = self._trade.orderStatus
        status.filled = float(self.filled_quantity)
        status.remaining = max(self._order.totalQuantity - status.filled, 0.0)
        status.avgFillPrice = float(self.value / self.filled_quantity)
        status.lastFillPrice = float(price)
        fill = self._fill(quantity, price, fee, moment_of(time_ns))
        self._trade.fills.append(fill)
        self._broker.world.tell_fill(self._broker.strategy_symbol, self._trade, fill)
        for other in self.group:
            if other is not self:
                other.take_back("another order of its group was filled")

    def _fill(self, quantity: Decimal, price: Decimal, fee: Decimal, moment: datetime) -> Fill:
        number = len(self._trade.fills) + 1
        execution = Execution(
            execId=f"{self._order_ref}.{number:02d}",
            time=moment,
            exchange=self._contract.exchange,
            side="BOT" if self._order.action == "BUY" else "SLD",
            shares=float(quantity),
            price=float(price),
            orderId=self._order.orderId,
            cumQty=float(self.filled_quantity),
            avgPrice=self._trade.orderStatus.avgFillPrice,
            orderRef=self._order_ref,
        )
        report = CommissionReport(execId=execution.execId, commission=float(fee), currency=self._contract.currency)
        return Fill(self._contract, execution, report, moment)

    def resized(self, quantity: Decimal) -> None:
        """Take in that the order is for another quantity now."""
        self._order.totalQuantity = float(quantity)
        self._trade.orderStatus.remaining = float(quantity - self.filled_quantity)

    def ended(self, state: str, why: str) -> None:
        """Take in that the order is over; exits that never began end with it."""
        if self.is_done:
            return
        self._reason = why or (_WHY_EXPIRED if state == "expired" else "")
        self._done.set()
        for child in self.children:
            if child.working is None:
                child.ended("cancelled", "its entry opened nothing")
        self._tell(_STATUS.get(state, "Cancelled"))

    def take_back(self, why: str) -> None:
        """Cancel it, wherever it is."""
        if self.is_done:
            return
        if self.working is None:
            self.ended("cancelled", why)
        else:
            self._broker.be_on_time()
            self._broker.desk.cancel(self.working, why)

    def _tell(self, status: str) -> None:
        self._trade.orderStatus.status = status
        self._broker.world.tell_status(self._broker.strategy_symbol, self._trade)


class BacktestBroker:
    """Places, changes and cancels the orders of one strategy; implements ``strategies.ports.Broker``."""

    def __init__(self, strategy_symbol: str, executor: Executor, desk: Desk, world: World) -> None:
        self.strategy_symbol = strategy_symbol
        self.desk, self.world = desk, world
        self._executor = executor
        self._tickets: dict[str, BacktestTicket] = {}  # that are not final
        self._placed = 0

    def be_on_time(self) -> None:
        """Move the desk on to the present of the strategies, which goes ahead of it between two bars."""
        self.desk.now_ns = max(self.desk.now_ns, self.world.now_ns)

    # -- placing

    async def place_order(
        self, contract: Contract, order: Order, *, owner: str, parent: Ticket | None = None
    ) -> BacktestTicket:
        """Let an order work from the next bar on, or with its parent's fill.

        Raises: OrderDeniedError, on record as denied.
        """
        holding, terms = self._checked(contract, order, is_exit=parent is not None)
        if isinstance(parent, BacktestTicket) and not parent.is_done:
            ticket = self._ticket(contract, order)
            self._hang(parent, [(ticket, terms)])
            return ticket
        self._afford([(order, holding, terms)])
        return self._work(contract, order, holding, terms)

    async def place_family(
        self, orders: Sequence[tuple[Contract, Order]], *, owner: str, is_bracket: bool
    ) -> list[BacktestTicket]:
        """Let a family work: a bracket's exits from the entry's fill on, else all, of which one cancels the others.

        Raises: OrderDeniedError before any was placed.
        """
        checked = [
            (contract, order, *self._checked(contract, order, is_exit=is_bracket and place > 0))
            for place, (contract, order) in enumerate(orders)
        ]
        entries = checked[:1] if is_bracket else checked
        self._afford([(order, holding, terms) for _, order, holding, terms in entries])
        tickets = [self._work(*one) for one in entries]
        if is_bracket:
            exits = [(self._ticket(contract, order), terms) for contract, order, _, terms in checked[1:]]
            self._hang(tickets[0], exits)
            return [*tickets, *(ticket for ticket, _ in exits)]
        for ticket in tickets:
            ticket.group = tickets
        return tickets

    def _checked(self, contract: Contract, order: Order, *, is_exit: bool) -> tuple[Holding, Terms]:
        """Return the books of a contract and the terms of an order.

        Raises: OrderDeniedError.
        """
        symbol = self.world.symbol_of(contract)
        terms, units = terms_of_order(order), to_decimal(order.totalQuantity)
        try:
            if symbol is None:
                raise OrderDeniedError(f"The run has no bars of {contract.symbol or contract}.", code="no_bars")
            holding = self._executor.holdings[symbol]
            if holding.currency != self._executor.currency:
                own = self._executor.currency
                raise OrderDeniedError(
                    f"{symbol} trades in {holding.currency}; the books of {self.strategy_symbol} are in {own}.",
                    code="other_currency",
                )
            check_terms(terms)
            if terms.good_after is not None:
                raise OrderDeniedError("A backtest has no orders that begin later.", code="not_simulated")
            if units % holding.lot:
                raise OrderDeniedError(f"{units:f} {symbol} is no multiple of {holding.lot:f}.", code="bad_lot")
            if not is_exit:
                self._check_short(holding, order, units)
        except OrderDeniedError as error:
            self._deny(order, symbol or contract.symbol, terms, error)
            raise
        return holding, terms

    def _check_short(self, holding: Holding, order: Order, units: Decimal) -> None:
        if order.action == "BUY" or self.desk.models.allow_short:
            return
        if units > holding.held - holding.selling:
            raise OrderDeniedError(
                f"A sale of {units:f} {holding.lane.symbol} with {holding.held:f} held goes short, "
                "which is not allowed here.",
                code="short_not_allowed",
            )

    def _afford(self, orders: Sequence[tuple[Order, Holding, Terms]]) -> None:
        """Refuse entries that would cost more than there is; of a group the dearest counts.

        Raises: OrderDeniedError (no_cash, no_price).
        """
        if not self.desk.models.check_cash:
            return
        book = self._executor.book
        free = book.available() - self._reserved()
        for order, holding, terms in orders:
            try:
                cost = _cost(order, holding, terms)
                if cost > free:
                    raise OrderDeniedError(
                        f"{order.totalQuantity:g} {holding.lane.symbol} cost about {cost:.2f}; {free:.2f} is free.",
                        code="no_cash",
                    )
            except OrderDeniedError as error:
                self._deny(order, holding.lane.symbol, terms, error)
                raise

    def _reserved(self) -> Decimal:
        """What working orders may still cost: what they would add to each position, at their own prices."""
        total = ZERO
        for holding in self._executor.holdings.values():
            for is_buy in (True, False):
                covered = max(-holding.held if is_buy else holding.held, ZERO)
                for order in (one for one in holding.orders if one.is_buy is is_buy):
                    opens = max(order.remaining - covered, ZERO)
                    covered -= order.remaining - opens
                    price = highest_price(order.terms, holding.price)
                    if price is not None:
                        total += opens * abs(price) * holding.multiplier
        return total

    def _work(self, contract: Contract, order: Order, holding: Holding, terms: Terms) -> BacktestTicket:
        ticket = self._ticket(contract, order)
        units = to_decimal(order.totalQuantity)
        self.be_on_time()
        self._executor.signals += 1
        try:
            placed = self.desk.place(
                self.strategy_symbol, holding, order.action == "BUY", units, terms, "", float(units)
            )
        except OrderDeniedError as error:
            self._deny(order, holding.lane.symbol, terms, error)
            raise
        placed.watcher = ticket
        ticket.working = placed
        self._tickets[ticket.order_ref] = ticket
        ticket._tell("Submitted")
        return ticket

    def _ticket(self, contract: Contract, order: Order) -> BacktestTicket:
        self._placed += 1
        order.orderId = self._placed
        order.orderRef = f"{self.strategy_symbol}/{self._placed:08d}"
        return BacktestTicket(self, order.orderRef, contract, order)

    def _hang(self, parent: BacktestTicket, exits: Sequence[tuple[BacktestTicket, Terms]]) -> None:
        """Let exits wait for their entry."""
        for ticket, terms in exits:
            ticket.order.parentId = parent.order.orderId
            parent.children.append(ticket)
            self._tickets[ticket.order_ref] = ticket
            if parent.working is not None:
                parent.working.exits += (Exit(terms, "exit", ticket),)

    def _deny(self, order: Order, symbol: str, terms: Terms, error: OrderDeniedError) -> None:
        now, desk = self.world.now_ns, self.desk
        units = to_decimal(order.totalQuantity)
        desk.deny(
            BacktestOrder(
                desk.next_id,
                self.strategy_symbol,
                symbol,
                now,
                now,
                order.action,
                units,
                ZERO,
                terms.order_type,
                terms.limit,
                terms.stop,
                "denied",
                error.message,
            )
        )

    # -- changing

    async def cancel_order(self, order_ref: str) -> None:
        """Take an order back, at once.

        Raises: OrderRefusedError (unknown_order, order_done).
        """
        self._open(order_ref).take_back("the strategy cancelled it")

    async def modify_order(
        self,
        order_ref: str,
        *,
        quantity: Decimal | None = None,
        limit: Decimal | None = None,
        stop: Decimal | None = None,
        trail: Decimal | None = None,
        trail_percent: Decimal | None = None,
    ) -> None:
        """Change a working order; what is None stays.

        Raises: OrderRefusedError (unknown_order, order_done, not_working, filled_beyond), OrderDeniedError.
        """
        ticket = self._open(order_ref)
        working = ticket.working
        if working is None:
            raise OrderRefusedError(f"{order_ref} waits for its entry; change it when it works.", code="not_working")
        given: dict[str, Any] = {"limit": limit, "stop": stop, "trail": trail, "trail_percent": trail_percent}
        terms = replace(working.terms, **{name: value for name, value in given.items() if value is not None})
        check_terms(terms)
        units = working.quantity if quantity is None else abs(quantity)
        if units <= working.filled:
            raise OrderRefusedError(f"{working.filled:f} of {order_ref} are filled already.", code="filled_beyond")
        working.change(units, terms)
        ticket.resized(units)
        _write_prices(ticket.order, terms)
        ticket.trade.modifyEvent.emit(ticket.trade)

    def _open(self, order_ref: str) -> BacktestTicket:
        ticket = self._tickets.get(order_ref)
        if ticket is None:
            raise OrderRefusedError(f"There is no order {order_ref}.", code="unknown_order")
        if ticket.is_done:
            raise OrderRefusedError(f"{order_ref} is over already.", code="order_done")
        return ticket

    def give_up(self, why: str) -> None:
        """Take back what was not filled, exits that protect a position left alone: the strategy failed."""
        for ticket in list(self.open_tickets()):
            if ticket.working is None or not ticket.working.is_exit:
                ticket.take_back(why)

    # -- what a strategy asks

    def point_value(self, contract: Contract) -> Decimal:
        """Return what a quoted 1 is worth for one unit."""
        symbol = self.world.symbol_of(contract)
        return Decimal(1) if symbol is None else self._executor.holdings[symbol].multiplier

    async def get_positions(self) -> list[StrategyPosition]:
        """Return this strategy's own positions."""
        return self.positions()

    def positions(self) -> list[StrategyPosition]:
        """Return this strategy's own positions, flat ones left out."""
        holdings = self._executor.holdings.items()
        return [position_of(self.world.contract_of(symbol), one) for symbol, one in holdings if one.held]

    async def get_equity(self) -> Decimal:
        """Return this strategy's own equity, at the last closes."""
        return self._executor.book.equity()

    def open_tickets(self) -> list[BacktestTicket]:
        """Return the tickets that are not final, the oldest first."""
        done = [ref for ref, ticket in self._tickets.items() if ticket.is_done]
        for ref in done:
            del self._tickets[ref]
        return list(self._tickets.values())


def _cost(order: Order, holding: Holding, terms: Terms) -> Decimal:
    """Return what the part of an order that opens would cost."""
    units = to_decimal(order.totalQuantity)
    opens = opening_part(holding.held, units if order.action == "BUY" else -units)
    if not opens:
        return ZERO
    price = highest_price(terms, holding.price)
    if price is None:
        raise OrderDeniedError(f"{holding.lane.symbol} has no price yet.", code="no_price")
    cost = opens * abs(price) * holding.multiplier
    if holding.fees is not None:
        cost += holding.fees.total(Traded(opens, cost, order.action == "SELL"))
    return cost


def terms_of_order(order: Order) -> Terms:
    """Return how an order of ib_async is to be worked.

    Raises: OrderDeniedError (bad_time).
    """
    trails = order.orderType.startswith("TRAIL")
    return Terms(
        order.orderType,
        limit=to_optional_decimal(order.lmtPrice) if order.orderType != "TRAIL" else None,
        stop=to_optional_decimal(order.trailStopPrice if trails else order.auxPrice),
        trail=to_optional_decimal(order.auxPrice) if trails else None,
        trail_percent=to_optional_decimal(order.trailingPercent) if trails else None,
        limit_offset=to_optional_decimal(order.lmtPriceOffset) if trails else None,
        tif=order.tif or "DAY",
        good_till=_moment(order.goodTillDate),
        good_after=_moment(order.goodAfterTime),
    )


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC)
    except ValueError as error:
        raise OrderDeniedError(f"{text!r} is no moment in UTC: yyyymmdd-hh:mm:ss.", code="bad_time") from error


def _write_prices(order: Order, terms: Terms) -> None:
    if terms.limit is not None:
        order.lmtPrice = float(terms.limit)
    if terms.trail is not None:
        order.auxPrice = float(terms.trail)
    elif terms.stop is not None and not order.orderType.startswith("TRAIL"):
        order.auxPrice = float(terms.stop)
    if terms.trail_percent is not None:
        order.trailingPercent = float(terms.trail_percent)
