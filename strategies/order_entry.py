"""The wrappers with which a strategy places, changes and cancels its orders.

Owns: single orders, brackets, one-cancels-the-other groups, combinations and rolls, as strategy files call them.
Leaves: order objects (``sizing``, ``order_types``, ``combos``), checks, intents and sending (the broker).
Rule: every order is this strategy's own; a family of orders is on record as a whole before its first goes out.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any

from ib_async import Contract, Order

from strategies.combos import COMBINATION, Leg, combination, roll
from strategies.exceptions import OrderDeniedError
from strategies.market_access import MarketAccess
from strategies.order_types import PROTECTIVE, Terms
from strategies.ports import Broker, StrategyPosition, Ticket
from strategies.sizing import Number, order_of, to_decimal

_TERMS = frozenset({"limit", "stop", "trail", "trail_percent", "limit_offset"})


def terms_from(order_type: str, **given: Any) -> Terms:
    """Return terms with their prices as decimals; ``useRth=True`` keeps an order within regular hours.

    Raises: OrderDeniedError when a price is no number.
    """
    values = dict(given)
    for name in _TERMS & values.keys():
        try:
            values[name] = None if values[name] is None else to_decimal(values[name])
        except ArithmeticError as error:
            raise OrderDeniedError(f"{name} {values[name]!r} is no number.", code="bad_value") from error
    return Terms(order_type, **values)


def bracket_orders(
    quantity: Decimal, entry: Terms, take_profit: Terms | None, stop_loss: Terms | None, *, algo: bool, urgency: str
) -> list[Order]:
    """Return parent, then profit taker, then stop, with the flags that have IB release them together.

    Raises: OrderDeniedError when there is no child, or what protects is no stop.
    """
    children = [child for child in (take_profit, stop_loss) if child is not None]
    if not children:
        raise OrderDeniedError("A bracket needs a profit taker, a stop or both.", code="no_children")
    if stop_loss is not None and stop_loss.order_type not in PROTECTIVE:
        raise OrderDeniedError(f"{stop_loss.order_type} does not protect a position.", code="bad_stop_loss")
    orders = [order_of(quantity, entry, algo=algo, urgency=urgency, transmit=False)]
    orders += [order_of(-quantity, child, transmit=False) for child in children]
    orders[-1].transmit = True
    return orders


class OrderEntry(MarketAccess):
    """What a strategy calls to trade; ``BaseStrategy`` adds sizing and books."""

    @abstractmethod
    async def get_positions(self) -> list[StrategyPosition]:
        """Return this strategy's own positions."""

    async def place_order(
        self,
        contract: Contract,
        quantity: Number,
        order_type: str = "MKT",
        algo: bool = True,
        urgency: str = "Patient",
        orderRef: str | None = None,  # noqa: N803 - the name strategy files use
        limit: Number | None = None,
        stop: Number | None = None,
        useRth: bool = False,  # noqa: N803 - the name strategy files use
        tif: str = "DAY",
        transmit: bool = True,
        parentId: int = 0,  # noqa: N803 - the name strategy files use
        *,
        trail: Number | None = None,
        trail_percent: Number | None = None,
        limit_offset: Number | None = None,
        good_till: datetime | None = None,
        good_after: datetime | None = None,
    ) -> Ticket:
        """Buy (quantity > 0) or sell (< 0); return the ticket once the order is committed and sent.

        Units: prices in the contract's currency; ``trail_percent`` in per cent; times aware. ``algo`` means IB's
        Adaptive, on MKT and LMT only. MATS gives every order its own reference; ``orderRef`` may repeat the
        strategy's symbol and nothing else.

        Raises: OrderDeniedError before anything was sent. What IB refuses later ends the ticket, with its ``reason``.
        """
        with self._denials_told():
            terms = terms_from(
                order_type,
                limit=limit,
                stop=stop,
                trail=trail,
                trail_percent=trail_percent,
                limit_offset=limit_offset,
                tif=tif,
                good_till=good_till,
                good_after=good_after,
                outside_rth=False if useRth else None,
            )
            order = order_of(
                to_decimal(quantity), terms, algo=algo, urgency=urgency, transmit=transmit, sec_type=contract.secType
            )
            return await self._send(contract, order, orderRef, parentId)

    async def place_bracket(
        self,
        contract: Contract,
        quantity: Number,
        order_type: str = "MKT",
        *,
        limit: Number | None = None,
        stop: Number | None = None,
        take_profit: Number | None = None,
        stop_loss: Number | None = None,
        trail: Number | None = None,
        trail_percent: Number | None = None,
        tif: str = "DAY",
        exit_tif: str = "GTC",
        algo: bool = False,
        urgency: str = "Patient",
        useRth: bool = False,  # noqa: N803 - the name strategy files use
    ) -> list[Ticket]:
        """Enter a position together with its profit taker and its stop; return their tickets, the entry first.

        The exits sleep at IB until the entry fills, and one cancels the other. ``stop_loss`` is a fixed stop;
        ``trail`` (an amount) or ``trail_percent`` let it follow the price instead.

        Raises: OrderDeniedError before anything was sent: all of them or none.
        """
        with self._denials_told():
            outside = False if useRth else None
            entry = terms_from(order_type, limit=limit, stop=stop, tif=tif, outside_rth=outside)
            profit = (
                None if take_profit is None else terms_from("LMT", limit=take_profit, tif=exit_tif, outside_rth=outside)
            )
            guard = _guard(stop_loss, trail, trail_percent, tif=exit_tif, outside_rth=outside)
            orders = bracket_orders(to_decimal(quantity), entry, profit, guard, algo=algo, urgency=urgency)
            qualified = await self.qualify(contract)
            return await self._send_family([(qualified, order) for order in orders], is_bracket=True)

    async def place_oco(self, orders: Sequence[Mapping[str, Any]]) -> list[Ticket]:
        """Place orders of which one cancels the others; each is given by ``place_order``'s own arguments by name.

        Raises: OrderDeniedError before anything was sent: all of them or none.
        """
        with self._denials_told():
            if len(orders) < 2:
                raise OrderDeniedError("One cancels the other: that takes at least two orders.", code="bad_family")
            members = []
            for wanted in orders:
                given = dict(wanted)
                contract = await self.qualify(given.pop("contract"))
                quantity = to_decimal(given.pop("quantity"))
                if given.pop("useRth", False):
                    given["outside_rth"] = False
                terms = terms_from(given.pop("order_type", "LMT"), **given)
                members.append((contract, order_of(quantity, terms, sec_type=contract.secType)))
            return await self._send_family(members, is_bracket=False)

    async def place_combo(
        self,
        legs: Sequence[Leg],
        quantity: Number,
        order_type: str = "MKT",
        *,
        limit: Number | None = None,
        tif: str = "DAY",
        exchange: str = "",
    ) -> Ticket:
        """Buy (> 0) or sell (< 0) several contracts as one order; the positions are those of its legs.

        ``legs`` are (contract, ratio): a ratio below zero is sold when the combination is bought. A limit is the
        combination's price and may be zero or negative.
        """
        with self._denials_told():
            qualified = [(await self.qualify(contract), ratio) for contract, ratio in legs]
            terms = terms_from(order_type, limit=limit, tif=tif)
            order = order_of(to_decimal(quantity), terms, sec_type=COMBINATION)
            return await self._send(combination(qualified, exchange), order)

    async def roll_future(
        self,
        current: Contract,
        new: Contract,
        quantity: Number | None = None,
        *,
        limit: Number | None = None,
    ) -> Ticket:
        """Move this strategy's position (or a part: ``quantity`` > 0) from one future to another in one order.

        ``limit`` is the price of new minus current, for long and short alike; without one the roll is at market.
        Raises: OrderDeniedError when this strategy holds less than is to be rolled.
        """
        with self._denials_told():
            old, following = await self.qualify(current), await self.qualify(new)
            held = sum((row.quantity for row in await self.get_positions() if row.con_id == old.conId), Decimal(0))
            made, units = roll(old, following, part_of(held, quantity))
            terms = terms_from("MKT" if limit is None else "LMT", limit=limit)
            return await self._send(made, order_of(units, terms, sec_type=COMBINATION))

    async def modify_order(self, ticket: Ticket, **changes: Number) -> None:
        """Change a working order: ``quantity``, ``limit``, ``stop``, ``trail``, ``trail_percent``.

        A change that IB refuses leaves the order as it was. Raises: OrderRefusedError, OrderDeniedError.
        """
        broker = self._broker_for_orders(None)
        await broker.modify_order(ticket.order_ref, **{name: to_decimal(value) for name, value in changes.items()})

    def open_orders(self, contract: Contract | None = None) -> list[Ticket]:
        """Return this strategy's working orders, of one contract or of all."""
        return [ticket for ticket in self._pending() if contract is None or _same(ticket.contract, contract)]

    async def cancel_orders(self, contract: Contract | None = None) -> list[Ticket]:
        """Ask IB to cancel this strategy's working orders; return their tickets."""
        tickets = self.open_orders(contract)
        if self.broker is not None:
            for ticket in tickets:
                await self.broker.cancel_order(ticket.order_ref)
        return tickets

    async def _send(self, contract: Contract, order: Order, order_ref: str | None = None, parent_id: int = 0) -> Ticket:
        """Send an order that is made already, for this strategy whatever the order says."""
        broker = self._broker_for_orders(order_ref)
        parent = self._parent(parent_id)
        qualified = contract if contract.secType == COMBINATION else await self.qualify(contract)
        return await broker.place_order(qualified, order, owner=self.symbol, parent=parent)

    async def _send_family(self, orders: Sequence[tuple[Contract, Order]], *, is_bracket: bool) -> list[Ticket]:
        broker = self._broker_for_orders(None)
        return list(await broker.place_family(orders, owner=self.symbol, is_bracket=is_bracket))

    @contextmanager
    def _denials_told(self) -> Iterator[None]:
        try:
            yield
        except OrderDeniedError as error:
            if "order_ref" not in error.fields:  # the broker tells of those that it has on record
                self.log(f"Order denied: {error.message}", "warning")
            raise

    def _broker_for_orders(self, order_ref: str | None) -> Broker:
        if not self.is_running:
            raise OrderDeniedError(f"{self.symbol} is stopping; it sends no new orders.", code="strategy_stopping")
        if self.broker is None or not self.is_connected:
            raise OrderDeniedError(f"{self.symbol} is not connected to IB.", code="not_connected")
        if order_ref not in (None, "", self.symbol):
            raise OrderDeniedError(
                f"orderRef {order_ref!r} would book the fill on another owner than {self.symbol}.", code="foreign_owner"
            )
        return self.broker

    def _parent(self, parent_id: int) -> Ticket | None:
        if not parent_id:
            return None
        for ticket in self._pending():
            if ticket.order.orderId == parent_id:
                return ticket
        raise OrderDeniedError(f"No working order has id {parent_id}; it cannot be a parent.", code="unknown_parent")


def part_of(held: Decimal, quantity: Number | None) -> Decimal:
    """Return the signed part of a holding that ``quantity`` (unsigned, None: all) means.

    Raises: OrderDeniedError when less is held.
    """
    if quantity is None:
        return held
    wanted = abs(to_decimal(quantity))
    if wanted > abs(held):
        raise OrderDeniedError(f"{wanted:f} are to be rolled, {abs(held):f} are held.", code="not_held")
    return wanted if held > 0 else -wanted


def _guard(stop_loss: Number | None, trail: Number | None, trail_percent: Number | None, **rest: Any) -> Terms | None:
    given = [value for value in (stop_loss, trail, trail_percent) if value is not None]
    if not given:
        return None
    if len(given) > 1:
        raise OrderDeniedError("A bracket has one stop: a price, an amount or a percentage.", code="bad_stop_loss")
    if stop_loss is not None:
        return terms_from("STP", stop=stop_loss, **rest)
    return terms_from("TRAIL", trail=trail, trail_percent=trail_percent, **rest)


def _same(left: Contract, right: Contract) -> bool:
    if left.conId and right.conId:
        return left.conId == right.conId
    return (left.symbol, left.secType, left.currency) == (right.symbol, right.secType, right.currency)
