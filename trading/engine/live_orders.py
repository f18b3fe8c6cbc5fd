"""The way of a reactive strategy's signals to its live broker: facts of the books, orders, exits.

Owns: reading positions and working orders as one moment, taking orders back, sending plans.
Leaves: what a signal means (``signal_rules``), in which order things are done (``signal_executor``), the gate and the
risk checks, which every order meets (``brokers.live``).
Rule: what works is read from the ledger, not from tickets: orders of an earlier life of the strategy count as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from ib_async import Contract, Stock

from strategies.exceptions import ConflictError, LedgerError, OrderDeniedError, OrderRefusedError, TransientError
from strategies.order_entry import bracket_orders
from strategies.order_types import Terms
from strategies.ports import StrategyPosition
from strategies.reactive import Signal
from strategies.sizing import order_of, to_decimal
from trading.ib.requests import contract_details
from trading.market.signal_rules import Gates, KnownFacts, Plan
from trading.orders import queries
from trading.orders.db_threads import in_db_thread
from trading.orders.facts import OpenOrder

if TYPE_CHECKING:
    from strategies.base import BaseStrategy

LOOKS = 8
END_TIMEOUT_S, END_POLL_S = 20.0, 0.05
EXIT_TIF = "GTC"
ZERO = Decimal(0)


class PriceSource(Protocol):
    """Prices that were heard."""

    def last_price(self, con_id: int) -> Decimal | None:
        """Return the last price; None before one."""


class Canceller(Protocol):
    """Cancels orders of any client (``TradeManager``)."""

    def cancel_order(self, order_ref: str) -> None:
        """Ask IB to cancel an order; blocks."""


@dataclass(frozen=True, slots=True)
class _Instrument:
    contract: Contract
    tick: Decimal | None


@dataclass(frozen=True, slots=True)
class _Books:
    """Working orders and positions of one moment."""

    orders: Sequence[OpenOrder]
    positions: Sequence[StrategyPosition]

    def held(self, con_id: int) -> Decimal:
        return sum((one.quantity for one in self.positions if one.con_id == con_id), ZERO)

    def entries(self, con_id: int) -> list[OpenOrder]:
        return [one for one in self.orders if one.con_id == con_id and not one.parent_ref]

    def exits(self, con_id: int) -> list[OpenOrder]:
        return [one for one in self.orders if one.con_id == con_id and one.parent_ref]


class LiveOrders:
    """The order port of one strategy's executor. Same loop only."""

    def __init__(self, strategy: BaseStrategy, prices: PriceSource, canceller: Canceller, data: Any) -> None:
        self._strategy, self._prices, self._canceller, self._data = strategy, prices, canceller, data
        self._instruments: dict[str, _Instrument] = {}

    async def contract_of(self, symbol: str) -> Contract:
        """Return the stock that a symbol of the strategy means.

        Raises: OrderDeniedError when IB knows none, or several.
        """
        return (await self._instrument(symbol)).contract

    async def _instrument(self, symbol: str) -> _Instrument:
        known = self._instruments.get(symbol)
        if known is None:
            strategy = self._strategy
            contract = await strategy.qualify(Stock(symbol, "SMART", str(strategy.params["currency"])))
            known = self._instruments[symbol] = _Instrument(contract, await self._tick(contract))
        return known

    async def _tick(self, contract: Contract) -> Decimal | None:
        ib = self._strategy.ib
        if ib is None:
            return None
        [details, *_] = await contract_details(ib, contract)
        return to_decimal(details.minTick) if details.minTick else None

    # -- facts

    async def facts(self, symbol: str, interval: str, gates: Gates) -> KnownFacts:
        """Return what is known now.

        Raises: LedgerError (ledger_moves, ledger_behind), TransientError, OrderDeniedError.
        """
        instrument = await self._instrument(symbol)
        con_id, books = instrument.contract.conId, await self._books()
        held, entries = books.held(con_id), books.entries(con_id)
        side = "SELL" if held > 0 else "BUY"
        others = gates.max_buying_power is not None or gates.max_open_positions is not None
        value, count = await self._others(books, con_id) if others else (ZERO, 0)
        broker = self._strategy.broker
        return KnownFacts(
            held=held,
            buying=sum((one.quantity for one in entries if one.side == "BUY"), ZERO),
            selling=sum((one.quantity for one in entries if one.side == "SELL"), ZERO),
            closing=sum((one.quantity for one in entries if one.side == side and one.order_type == "MKT"), ZERO)
            if held
            else ZERO,
            price=await self._price(instrument.contract),
            equity=await self._equity(),
            quality=self._data.get_bar_quality(symbol, interval),
            multiplier=Decimal(1) if broker is None else broker.point_value(instrument.contract),
            tick=instrument.tick,
            other_value=value,
            other_positions=count,
        )

    async def _books(self) -> _Books:
        """Return orders and positions that belong together: orders are read before and after, until they agree."""
        owner = self._strategy.symbol
        before = await in_db_thread(_working, owner)
        for _ in range(LOOKS):
            positions = await self._strategy.get_positions()
            after = await in_db_thread(_working, owner)
            if [_key(one) for one in after] == [_key(one) for one in before]:
                return _Books(after, positions)
            before = after
        raise LedgerError(f"The orders of {owner} move faster than they can be read.", code="ledger_moves")

    async def _price(self, contract: Contract) -> Decimal | None:
        heard = self._prices.last_price(contract.conId)
        if heard is not None:
            return heard
        try:
            return await self._strategy.get_market_price(contract)
        except TransientError:
            return None

    async def _equity(self) -> Decimal | None:
        try:
            return await self._strategy.get_equity()
        except LedgerError:
            return None  # sized signals need none; for the others the rules refuse

    async def _others(self, books: _Books, con_id: int) -> tuple[Decimal, int]:
        """Return the value of the strategy's other symbols, held or being entered, and how many they are."""
        value, symbols = ZERO, set[int]()
        marks: Mapping[int, Decimal] = {one.con_id: one.mark or one.average_cost for one in books.positions}
        for held in books.positions:
            if held.con_id != con_id and held.quantity:
                symbols.add(held.con_id)
                worth = abs(held.quantity) * marks[held.con_id] * held.multiplier
                value += await self._strategy.to_own_currency(worth, held.currency)
        for order in books.orders:
            is_entry = order.con_id != con_id and not order.parent_ref
            if is_entry and not _closes(order, books.held(order.con_id)):
                symbols.add(order.con_id)
                price = order.limit_price or self._prices.last_price(order.con_id) or marks.get(order.con_id)
                if price is None:
                    raise TransientError(f"The price of {order.order_ref} is not known.", code="no_price")
                value += order.quantity * price
        return value, len(symbols)

    # -- taking back

    async def has_exits(self, symbol: str) -> bool:
        """Tell whether protective exits of a symbol work."""
        con_id = (await self._instrument(symbol)).contract.conId
        return bool((await self._books()).exits(con_id))

    async def withdraw(self, symbol: str, *, exits_only: bool) -> None:
        """Cancel the symbol's orders and wait until they ended.

        Raises: OrderDeniedError (order_working).
        """
        con_id, books = (await self._instrument(symbol)).contract.conId, await self._books()
        orders = books.exits(con_id) + ([] if exits_only else books.entries(con_id))
        for order in orders:
            await self._cancel(order.order_ref)
        refs = {order.order_ref for order in orders}
        deadline = asyncio.get_running_loop().time() + END_TIMEOUT_S
        while refs & {one.order_ref for one in await in_db_thread(_working, self._strategy.symbol)}:
            if asyncio.get_running_loop().time() > deadline:
                raise OrderDeniedError(
                    f"Orders of {symbol} could not be cancelled in {END_TIMEOUT_S:g} s; the position is left as it is.",
                    code="order_working",
                )
            await asyncio.sleep(END_POLL_S)

    async def _cancel(self, order_ref: str) -> None:
        broker = self._strategy.broker
        if broker is None:
            raise OrderDeniedError(f"{self._strategy.symbol} is not connected to IB.", code="not_connected")
        try:
            await broker.cancel_order(order_ref)
        except OrderRefusedError as error:
            if error.code == "order_done":
                return
            if error.code != "foreign_client":
                raise
            try:  # of an earlier life, under another client id
                await asyncio.to_thread(self._canceller.cancel_order, order_ref)
            except ConflictError:
                return

    async def shrink_exits(self, symbol: str, quantity: Decimal) -> None:
        """Have the symbol's exits trade no more than that; each counts for the whole, since one cancels the other."""
        con_id = (await self._instrument(symbol)).contract.conId
        broker = self._strategy.broker
        for order in (await self._books()).exits(con_id):
            if order.quantity > quantity and broker is not None:
                done = (order.ordered or order.quantity) - order.quantity
                await broker.modify_order(order.order_ref, quantity=done + quantity)

    # -- sending

    async def place(self, symbol: str, plan: Plan, signal: Signal) -> None:
        """Send a plan: one order, or an entry with its exits behind what closes first.

        Raises: OrderDeniedError.
        """
        contract = (await self._instrument(symbol)).contract
        terms = (
            replace(plan.terms, outside_rth=False) if self._strategy.params.get("regular_hours", True) else plan.terms
        )
        exits = [
            None if plan.take_profit is None else Terms("LMT", limit=plan.take_profit, tif=EXIT_TIF, outside_rth=False),
            None if plan.stop_loss is None else Terms("STP", stop=plan.stop_loss, tif=EXIT_TIF, outside_rth=False),
        ]
        opens = plan.opens if plan.quantity > 0 else -plan.opens
        rest = plan.quantity - opens if any(exits) else plan.quantity
        if rest:
            await self._strategy._send(contract, order_of(rest, terms, sec_type=contract.secType))
        if any(exits):
            orders = bracket_orders(opens, terms, *exits, algo=False, urgency="Patient")
            await self._strategy._send_family([(contract, order) for order in orders], is_bracket=True)


def _working(owner: str) -> list[OpenOrder]:
    return [one for one in queries.open_orders(datetime.now(UTC)) if one.owner == owner]


def _key(order: OpenOrder) -> tuple[Any, ...]:
    return order.order_ref, order.con_id, order.side, order.quantity


def _closes(order: OpenOrder, held: Decimal) -> bool:
    return bool(held) and (held > 0) is (order.side == "SELL") and order.quantity <= abs(held)
