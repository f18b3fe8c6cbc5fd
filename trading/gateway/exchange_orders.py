"""The order desk of the paper exchange: accepts, matches, changes and cancels orders.

Owns: the life of an order and the sequence of events that a client sees of it.
Leaves: checks (``exchange_checks``), fills (``exchange_matching``), what is stored (``exchange_state``).
Rule: as on a real gateway, a marketable order is PreSubmitted, executes, is Filled; commissions follow later; an order
that is refused before anyone worked on it ends in an error alone, one refused for margin is Inactive as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from trading.brokers import fees
from trading.gateway import exchange_checks as checks
from trading.gateway import hours
from trading.gateway.account import RateOf, Trade
from trading.gateway.exchange_matching import DeskOptions, Matcher
from trading.gateway.exchange_state import OrderRecord, VenueState
from trading.gateway.hours import to_micros
from trading.gateway.instruments import Instrument, InstrumentTable
from trading.gateway.market import Market
from trading.gateway.model import (
    AccountChanged,
    CommissionReported,
    Contract,
    Executed,
    OrderChanged,
    OrderError,
    OrderRequest,
    OrderWhatIf,
    PositionChanged,
    RequestError,
    VenueEvent,
    WhatIf,
)

CANCELLED_TEXT = "Order Canceled - reason:"


class OrderDesk:
    """Works orders against market and state. Not thread-safe."""

    def __init__(
        self,
        table: InstrumentTable,
        market: Market,
        state: VenueState,
        options: DeskOptions,
        rate_of: Callable[[datetime], RateOf],
    ) -> None:
        self._table, self._market, self._state, self._options = table, market, state, options
        self._rate_of = rate_of
        self._matcher = Matcher(market, state, options, rate_of)
        self.commissions_withheld = False  # as IB does at times: they come late, or with the statement

    # what clients ask

    def place(self, request: OrderRequest, now: datetime) -> list[VenueEvent]:
        """New order or modification; see ``model.Venue.place``."""
        request = request if request.tif else replace(request, tif="DAY")
        key = (request.client_id, request.order_id)
        known = self._state.orders.get(key)
        if known is not None and not known.is_done and not request.what_if:
            return self._modify(known, request, now)
        if known is not None and known.status == "Filled":
            return [_error(request, 104, "Cannot modify a filled order.")]
        if request.order_id < self._state.next_ids.get(request.client_id, 1):
            return [_error(request, 103, "Duplicate order id")]
        if not request.what_if:
            self._state.use_id(*key)
            self._state.count_ref(request.order_ref)
        try:
            instrument, contract = self._table.single(request.contract)
        except RequestError as error:
            return [_error(request, error.code, error.text)]
        refusal = self._refuse(request, instrument)
        if refusal is not None:
            return [_error(request, refusal.code, refusal.text)]
        if request.what_if:
            return self._what_if(request, contract, now)
        return self._enter(request, instrument, contract, now)

    def cancel(self, client_id: int, order_id: int, now: datetime) -> list[VenueEvent]:
        """Cancel one order of a client."""
        order = self._state.orders.get((client_id, order_id))
        if order is None:
            text = f"OrderId {order_id} that needs to be cancelled is not found."
            return [OrderError(client_id, order_id, 10147, text)]
        if order.is_done:
            text = f"OrderId {order_id} that needs to be cancelled cannot be cancelled, state: {order.status}."
            return [OrderError(client_id, order_id, 10148, text)]
        return self._end(order, now)

    def cancel_all(self, now: datetime) -> list[VenueEvent]:
        """Cancel every working order of every client."""
        events: list[VenueEvent] = []
        for order in list(self._state.working.values()):
            if not order.is_done:
                events.extend(self._end(order, now))
        return events

    def advance(self, now: datetime) -> list[VenueEvent]:
        """Let the market work on the orders, end those whose day is over, tell commissions that are due."""
        events: list[VenueEvent] = []
        if self._state.working:
            now_us = to_micros(now)
            for order in list(self._state.working.values()):
                if order.is_done or order.held:
                    continue
                if order.expires_us is not None and order.expires_us <= now_us:
                    events.extend(self._end(order, now))
                elif not self._waits_for_parent(order):
                    events.extend(self._work(order, now))
        self._matcher.looked(now)
        if self._state.unreported:
            events.extend(self.due_commissions(now))
        return events

    def due_commissions(self, now: datetime) -> list[VenueEvent]:
        """Commissions whose moment has come, in the order of their executions."""
        if self.commissions_withheld:
            return []
        now_us = to_micros(now)
        due = []
        for entry in self._state.unreported.values():
            if entry.due_us > now_us:
                break
            due.append(entry)
        if not due:
            return []
        self._state.report_commissions([entry.execution.exec_id for entry in due])
        return [CommissionReported(entry.commission) for entry in due]

    def inject(
        self, con_id: int, count: int, request: OrderRequest, quantity: Decimal, price: Decimal, now: datetime
    ) -> list[VenueEvent]:
        """One order with ``count`` executions at once, margin or not: for measurements and tests."""
        instrument = self._table.get(con_id)
        self._state.use_id(request.client_id, request.order_id)
        self._state.count_ref(request.order_ref)
        order = self._record(request, instrument, instrument.contract, now)
        events: list[VenueEvent] = [OrderChanged(order.snapshot())]
        for _ in range(count):
            events.extend(self._matcher.execute(order, quantity, price, now))
        return [*events, PositionChanged(con_id), AccountChanged()]

    def correct(self, exec_id: str, quantity: Decimal, price: Decimal, now: datetime) -> list[VenueEvent]:
        """The next revision of an execution; its commission follows like that of any other."""
        entry = self._state.correct_execution(exec_id, quantity, price, now + self._options.commission_delay)
        return [Executed(entry.execution), PositionChanged(entry.execution.contract.con_id), AccountChanged()]

    def reject(self, order: OrderRecord, code: int, text: str, now: datetime) -> list[VenueEvent]:
        """End a working order as refused by its exchange."""
        self._state.set_status(order, "Inactive", now, text)
        return [OrderChanged(order.snapshot()), OrderError(*order.key, code, text), *self._end_children(order, now)]

    def fill_order(
        self, order: OrderRecord, quantity: Decimal, price: Decimal | None, now: datetime
    ) -> list[VenueEvent]:
        """Execute an order at once, beyond what it asked for if need be, and also when it has ended."""
        con_id = order.contract.con_id
        at = self._market.mark(con_id, now) if price is None else price
        events = self._matcher.execute(order, quantity, at, now)
        return [*events, PositionChanged(con_id), AccountChanged()]

    # entering

    def _refuse(self, request: OrderRequest, instrument: Instrument) -> checks.Refusal | None:
        account = self._state.account.account_id
        if request.account not in ("", account):
            return checks.Refusal(
                321, f"Error validating request.-'bK' : cause - Invalid account code '{request.account}'."
            )
        if request.parent_id and (request.client_id, request.parent_id) not in self._state.orders:
            return checks.Refusal(135, f"Can't find order with id = {request.parent_id}")
        return checks.refuse_order(request, instrument)

    def _enter(
        self, request: OrderRequest, instrument: Instrument, contract: Contract, now: datetime
    ) -> list[VenueEvent]:
        order = self._record(request, instrument, contract, now)
        if not request.transmit:
            return []
        events: list[VenueEvent] = []
        for each in self._released_by(order):
            events.extend(self._accept(each, now))
        return events

    def _record(self, request: OrderRequest, instrument: Instrument, contract: Contract, now: datetime) -> OrderRecord:
        perm_id = self._state.next_perm_id()
        order = OrderRecord(
            request=replace(request, transmit=True),
            contract=contract,
            perm_id=perm_id,
            placed_us=to_micros(now),
            since_us=to_micros(now),
            held=not request.transmit,
            expires_us=self._expiry(request, instrument, now),
        )
        self._state.put_order(order)
        return self._state.by_perm[perm_id]

    def _released_by(self, order: OrderRecord) -> list[OrderRecord]:
        """The family that an order's transmission releases: parent first, then held siblings, then itself."""
        parent_id = order.request.parent_id
        parent = self._state.orders.get((order.request.client_id, parent_id)) if parent_id else None
        if parent is None:
            return [order]
        family = [parent] if parent.held else []
        family.extend(each for each in self._children(parent) if each.held and each is not order)
        return [*family, order]

    def _children(self, parent: OrderRecord) -> list[OrderRecord]:
        client_id, order_id = parent.key
        return [
            each
            for each in self._state.working.values()
            if each.request.parent_id == order_id and each.request.client_id == client_id
        ]

    def _waits_for_parent(self, order: OrderRecord) -> bool:
        if not order.request.parent_id:
            return False
        parent = self._state.orders.get((order.request.client_id, order.request.parent_id))
        return parent is not None and parent.status != "Filled"

    def _accept(self, order: OrderRecord, now: datetime) -> list[VenueEvent]:
        """Check margin, announce the order, match it at once."""
        if order.held:
            order.held = False
            self._state.put_order(order)
        if not order.request.parent_id:
            refusal = checks.refuse_margin(self._impact(order.request, order.contract, now), self._currency)
            if refusal is not None:
                self._state.set_status(order, "Inactive", now, refusal.text)
                error = OrderError(*order.key, refusal.code, refusal.text)
                return [OrderChanged(order.snapshot()), error, *self._end_children(order, now)]
        events: list[VenueEvent] = [OrderChanged(order.snapshot())]
        instrument = self._table.get(order.contract.con_id)
        notice = checks.odd_lot_notice(order.request, instrument) or self._sleep_notice(order, instrument, now)
        if notice is not None:
            events.append(OrderError(*order.key, notice.code, notice.text))
        if not self._waits_for_parent(order):
            events.extend(self._work(order, now))
        return events

    def _what_if(self, request: OrderRequest, contract: Contract, now: datetime) -> list[VenueEvent]:
        order = OrderRecord(request=request, contract=contract, perm_id=0, placed_us=to_micros(now))
        return [OrderWhatIf(order.snapshot(), self._impact(request, contract, now))]

    def _impact(self, request: OrderRequest, contract: Contract, now: datetime) -> WhatIf:
        mark = request.limit_price if request.order_type == "LMT" else None
        price = mark or self._market.mark(contract.con_id, now)
        is_sell = request.action == "SELL"
        value = request.quantity * price * Decimal(contract.multiplier or 1)
        commission = self._matcher.schedule(contract, now).total(fees.Traded(request.quantity, value, is_sell))
        trade = Trade(contract, -request.quantity if is_sell else request.quantity, price, commission)
        return self._state.account.what_if(trade, lambda con_id: self._market.mark(con_id, now), self._rate_of(now))

    @property
    def _currency(self) -> str:
        return self._state.account.currency

    def _expiry(self, request: OrderRequest, instrument: Instrument, now: datetime) -> int | None:
        """The end of the session or, where the market never sleeps, of the New York day."""
        if request.tif == "GTC":
            return None
        if self._market.exchange_hours:
            extended = request.outside_rth and instrument.contract.sec_type == "STK"
            closing = hours.next_close(instrument.calendar, now, extended=extended)
            if closing is not None:
                return to_micros(closing)
        midnight = now.astimezone(hours.NEW_YORK).replace(hour=0, minute=0, second=0, microsecond=0)
        return to_micros(midnight + timedelta(days=1))

    def _sleep_notice(self, order: OrderRecord, instrument: Instrument, now: datetime) -> checks.Refusal | None:
        if self._market.is_open(order.contract.con_id, now, outside_rth=order.request.outside_rth):
            return None
        extended = order.request.outside_rth and instrument.contract.sec_type == "STK"
        opens = hours.next_open(instrument.calendar, now, extended=extended)
        local = (
            "the next session" if opens is None else f"{opens.astimezone(hours.NEW_YORK):%Y-%m-%d %H:%M:%S} US/Eastern"
        )
        request = order.request
        return checks.Refusal(
            399,
            f"Order Message:\n{request.action} {request.quantity} {order.contract.local_symbol}\n"
            f"Warning: Your order will not be placed at the exchange until {local}.",
        )

    # changing

    def _modify(self, order: OrderRecord, request: OrderRequest, now: datetime) -> list[VenueEvent]:
        try:
            instrument, contract = self._table.single(request.contract)
        except RequestError as error:
            return [_error(request, error.code, error.text)]
        refusal = checks.refuse_modification(order, request, contract.con_id) or self._refuse(request, instrument)
        if refusal is None and not order.request.parent_id:
            added = replace(request, quantity=request.quantity - order.filled)
            refusal = checks.refuse_margin(self._impact(added, contract, now), self._currency)
        if refusal is not None:
            return [_error(request, refusal.code, refusal.text)]
        order.request = replace(request, transmit=True)
        order.since_us = to_micros(now)
        order.expires_us = self._expiry(request, instrument, now)
        self._state.put_order(order)
        if order.held:
            if not request.transmit:
                return []
            return [event for each in self._released_by(order) for event in self._accept(each, now)]
        events: list[VenueEvent] = [OrderChanged(order.snapshot())]
        if not self._waits_for_parent(order):
            events.extend(self._work(order, now))
        return events

    def _end(self, order: OrderRecord, now: datetime) -> list[VenueEvent]:
        """Cancel a working order and the children that waited for it."""
        was_held = order.held
        self._state.set_status(order, "Cancelled", now)
        events: list[VenueEvent] = [] if was_held else [OrderChanged(order.snapshot())]
        events.append(OrderError(*order.key, 202, CANCELLED_TEXT))
        return events + self._end_children(order, now)

    def _end_children(self, order: OrderRecord, now: datetime) -> list[VenueEvent]:
        if order.filled:
            return []
        return [event for child in self._children(order) for event in self._end(child, now)]

    # working

    def _work(self, order: OrderRecord, now: datetime) -> list[VenueEvent]:
        return [*self._matcher.work(order, now), *self._after_fill(order, now)]

    def _after_fill(self, order: OrderRecord, now: datetime) -> list[VenueEvent]:
        """Children of a filled parent start; siblings of a filled child end, as IB links them."""
        if order.status != "Filled":
            return []
        for child in self._children(order):
            child.since_us = to_micros(now)
            self._state.put_order(child)
        if not order.request.parent_id:
            return []
        parent = self._state.orders.get((order.request.client_id, order.request.parent_id))
        siblings = self._children(parent) if parent is not None else []
        return [event for each in siblings if not each.held for event in self._end(each, now)]


def _error(request: OrderRequest, code: int, text: str) -> OrderError:
    return OrderError(request.client_id, request.order_id, code, text)
