"""The order desk of the paper exchange: accepts, matches, changes and cancels orders.

Owns: the life of an order and the sequence of events that a client sees of it.
Leaves: checks (``exchange_checks``), relatives (``exchange_families``), fills (``exchange_matching``), entering
(``exchange_entry``), what is stored (``exchange_state``).
Rule: as on a real gateway, a marketable order is PreSubmitted, executes, is Filled; commissions follow later; an order
that is refused before anyone worked on it ends in an error alone, one refused for margin is Inactive as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from trading.gateway import exchange_checks as checks
from trading.gateway import exchange_families as families
from trading.gateway.account import RateOf
from trading.gateway.exchange_auctions import deadline_of
from trading.gateway.exchange_entry import Entry, Prepared
from trading.gateway.exchange_matching import DeskOptions, Matcher
from trading.gateway.exchange_notices import PRESET, notices
from trading.gateway.exchange_price_checks import Refusal, late
from trading.gateway.exchange_records import OrderRecord
from trading.gateway.exchange_state import VenueState
from trading.gateway.exchange_terms import REDUCE_OPEN
from trading.gateway.hours import from_micros, to_micros
from trading.gateway.instruments import InstrumentTable
from trading.gateway.market import Market
from trading.gateway.market_steps import Look
from trading.gateway.model import (
    AccountChanged,
    CommissionReported,
    Executed,
    OrderBound,
    OrderChanged,
    OrderError,
    OrderRequest,
    OrderWhatIf,
    PositionChanged,
    RequestError,
    VenueEvent,
)

CANCELLED = Refusal(202, "Order Canceled - reason:")
_AT_ONCE = frozenset({"IOC", "FOK"})


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
        self._market, self._state, self._options = market, state, options
        self._matcher = Matcher(market, state, options, rate_of)
        self._families = families.Families(state)
        self._entry = Entry(table, market, state, self._matcher, options, rate_of)
        self._answers: list[families.GroupFill] = []  # of groups without block, until the look is over
        self.commissions_withheld = False  # as IB does at times: they come late, or with the statement
        self.binds_manual = False

    # what clients ask

    def place(self, request: OrderRequest, now: datetime) -> list[VenueEvent]:
        """New order or modification; see ``model.Venue.place``."""
        by_preset = not request.tif
        key = (request.client_id, request.order_id)
        known = self._state.orders.get(key)
        if known is not None and not known.is_done and not request.what_if:
            return self._modify(known, request, now)
        refusal = self._refuse_id(known, request)
        if refusal is not None:
            return [_error(request, refusal)]
        if not request.what_if:
            self._state.use_id(*key)
            self._state.count_ref(request.order_ref)
        try:
            prepared = self._entry.prepare(request, now)
        except RequestError as error:
            return [_error(request, Refusal(error.code, error.text))]
        if request.what_if:
            order = OrderRecord(prepared.request, prepared.contract, 0, to_micros(now), legs=prepared.legs)
            return [OrderWhatIf(order.snapshot(), self._entry.impact(order.request, order, now))]
        order = self._entry.record(prepared, now)
        return self._transmit(order, now, PRESET if by_preset and self._options.tif_preset else None)

    def place_manual(self, request: OrderRequest, now: datetime) -> list[VenueEvent]:
        """An order that somebody typed into TWS; see ``Exchange.place_manual``.

        Raises: RequestError with what TWS would show to that person.
        """
        typed = replace(request, client_id=0, order_id=0, parent_id=0, transmit=True, what_if=False)
        order = self._entry.record(self._entry.prepare(typed, now), now, manual=True)
        bound = self._bind(order) if self.binds_manual else []
        return [*bound, *self._transmit(order, now)]

    def bind_manual(self) -> list[VenueEvent]:
        """Give client 0 an id for every manual order that works without one."""
        unbound = [order for order in self._state.working.values() if order.manual and not order.request.order_id]
        return [event for order in unbound for event in (*self._bind(order), OrderChanged(order.snapshot()))]

    def _bind(self, order: OrderRecord) -> list[VenueEvent]:
        order.request = replace(order.request, order_id=self._state.next_manual_id())
        self._state.put_order(order)
        return [OrderBound(order.perm_id, *order.key)]

    def cancel(self, client_id: int, order_id: int, now: datetime) -> list[VenueEvent]:
        """Cancel one order of a client."""
        order = self._state.orders.get((client_id, order_id))
        if order is None:
            if not order_id:  # orders typed into TWS carry it until client 0 binds them
                return [OrderError(client_id, order_id, 136, "This order cannot be cancelled.")]
            text = f"OrderId {order_id} that needs to be cancelled is not found."
            return [OrderError(client_id, order_id, 10147, text)]
        if order.is_done:
            text = f"OrderId {order_id} that needs to be cancelled cannot be cancelled, state: {order.status}."
            return [OrderError(client_id, order_id, 10148, text)]
        if self._is_late(order, now):
            text = f"Cancel attempted when order is not in a cancellable state.  Order permId = {order.perm_id}"
            return [OrderError(client_id, order_id, 161, text)]
        return self._closed_look(self._end(order, now), now)

    def cancel_by_hand(self, perm_id: int, now: datetime) -> list[VenueEvent]:
        """Somebody cancels an order in TWS, whoever placed it.

        Raises: RequestError when there is no such working order.
        """
        order = self._state.working.get(perm_id)
        if order is None:
            raise RequestError(200, f"There is no working order with permId {perm_id}.")
        return self._end(order, now)

    def cancel_all(self, now: datetime) -> list[VenueEvent]:
        """Cancel every working order of every client that can be cancelled."""
        events: list[VenueEvent] = []
        for order in list(self._state.working.values()):
            if not order.is_done and not self._is_late(order, now):
                events.extend(self._end(order, now))
        return events

    def advance(self, now: datetime) -> list[VenueEvent]:
        """Let the market work on the orders, end those whose day is over, tell commissions that are due."""
        events: list[VenueEvent] = []
        if self._state.working:
            now_us = to_micros(now)
            for order in self._families.in_turn():
                if not order.is_done and not order.held:
                    events.extend(self._turn(order, now, now_us))
        events = self._closed_look(events, now)
        self._matcher.looked(now)
        if self._state.unreported:
            events.extend(self.due_commissions(now))
        return events

    def look_from(self, now: datetime) -> None:
        """Leave out what the market did up to a moment: a bar that opens begins there."""
        self._matcher.looked(now)

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
        return [CommissionReported(entry.commission) for entry in due if entry.commission is not None]

    def inject(
        self, con_id: int, count: int, request: OrderRequest, quantity: Decimal, price: Decimal, now: datetime
    ) -> list[VenueEvent]:
        """One order with ``count`` executions at once, margin or not: for measurements and tests."""
        if request.order_id > 0:
            self._state.use_id(request.client_id, request.order_id)
        self._state.count_ref(request.order_ref)
        order = self._entry.record_unchecked(request, con_id, now)
        events: list[VenueEvent] = [OrderChanged(order.snapshot())]
        for _ in range(count):
            events.extend(self._matcher.execute(order, quantity, price, now))
        return [*events, PositionChanged(con_id), AccountChanged()]

    def correct(self, exec_id: str, quantity: Decimal, price: Decimal, now: datetime) -> list[VenueEvent]:
        """The next revision of an execution; its commission follows like that of any other."""
        entry = self._state.correct_execution(exec_id, quantity, price, now + self._options.commission_delay)
        contract = entry.execution.contract
        events: list[VenueEvent] = [Executed(entry.execution)]
        if contract.sec_type != "BAG":  # a combination's legs move the account, each by its own correction
            events += [PositionChanged(contract.con_id), AccountChanged()]
        return events

    def reject(self, order: OrderRecord, code: int, text: str, now: datetime) -> list[VenueEvent]:
        """End a working order as refused by its exchange."""
        self._state.set_status(order, "Inactive", now, text)
        return [OrderChanged(order.snapshot()), OrderError(*order.key, code, text), *self._end_family(order, now)]

    def fill_order(
        self, order: OrderRecord, quantity: Decimal, price: Decimal | None, now: datetime
    ) -> list[VenueEvent]:
        """Execute an order at once, beyond what it asked for if need be, and also when it has ended."""
        con_id = order.contract.con_id
        at = self._market.mark(con_id, now) if price is None else price
        events = self._matcher.execute(order, quantity, at, now)
        return [*events, PositionChanged(con_id), AccountChanged()]

    # entering

    def _refuse_id(self, known: OrderRecord | None, request: OrderRequest) -> Refusal | None:
        if known is not None and known.status == "Filled":
            return Refusal(104, "Cannot modify a filled order.")
        if request.order_id < self._state.next_ids.get(request.client_id, 1):
            return Refusal(103, "Duplicate order id")
        return None

    def _transmit(self, order: OrderRecord, now: datetime, notice: Refusal | None = None) -> list[VenueEvent]:
        if order.held:
            return []
        events: list[VenueEvent] = []
        for each in self._families.released_by(order):
            events.extend(self._accept(each, now, notice if each is order else None))
        return self._closed_look(events, now)

    def _accept(self, order: OrderRecord, now: datetime, notice: Refusal | None = None) -> list[VenueEvent]:
        """Check limits and margin, announce the order, match it at once."""
        if order.held:
            order.held = False
            order.since_us = max(order.since_us, to_micros(now))
            self._state.put_order(order)
        refusal = self._refuse_entry(order, now)
        if refusal is not None:
            self._state.set_status(order, "Inactive", now, refusal.text)
            return [OrderChanged(order.snapshot()), *_told(order, refusal), *self._end_family(order, now)]
        events: list[VenueEvent] = [OrderChanged(order.snapshot())]
        said = [] if notice is None else [notice]
        said.extend(notices(order, self._entry.instrument(order), now, is_open=self._matcher.is_open(order, now)))
        events.extend(event for each in said for event in _told(order, each))
        return [*events, *self._turn(order, now, to_micros(now))]

    def _refuse_entry(self, order: OrderRecord, now: datetime) -> Refusal | None:
        refusal = checks.refuse_crowd(self._families.active(order), self._options.max_active)
        if refusal is not None or order.request.parent_id:
            return refusal  # a child closes what its parent opens
        return checks.refuse_margin(self._entry.impact(order.request, order, now), self._state.account.currency)

    # changing

    def _modify(self, order: OrderRecord, request: OrderRequest, now: datetime) -> list[VenueEvent]:
        before = order.request
        # A bracket's group is given by the venue: its client does not know it, or repeats it.
        kept = {"ocaType": before.echo["ocaType"]} if "ocaType" in before.echo else {}
        group = request.oca_group or before.oca_group
        request = replace(request, oca_group=group, echo={**kept, **request.echo}, tif=request.tif or before.tif)
        try:
            prepared = self._entry.prepare(request, now, changes=order)
        except RequestError as error:
            return [_error(request, Refusal(error.code, error.text))]
        refusal = self._refuse_change(order, prepared, now)
        if refusal is not None:
            return [_error(request, refusal)]
        self._entry.change(order, prepared, now)
        if order.held:
            return [] if not request.transmit else self._release(order, now)
        events: list[VenueEvent] = [OrderChanged(order.snapshot())]
        return self._closed_look([*events, *self._turn(order, now, to_micros(now))], now)

    def _release(self, order: OrderRecord, now: datetime) -> list[VenueEvent]:
        family = self._families.released_by(order)
        return self._closed_look([event for each in family for event in self._accept(each, now)], now)

    def _refuse_change(self, order: OrderRecord, prepared: Prepared, now: datetime) -> Refusal | None:
        request = prepared.request
        if not order.held and to_micros(now) < order.placed_us + self._options.processing.total_seconds() * 1e6:
            return Refusal(2102, "Unable to modify this order as it is still being processed.")
        if self._is_late(order, now) and order.auction_us is not None:
            return late(from_micros(deadline_of(order.request, order.auction_us)))
        if request.parent_id:
            return None
        added = replace(request, quantity=request.quantity - order.filled)
        return checks.refuse_margin(self._entry.impact(added, order, now), self._state.account.currency)

    def _is_late(self, order: OrderRecord, now: datetime) -> bool:
        """Tell whether an order is in the exchange's hands until its auction."""
        return order.auction_us is not None and to_micros(now) >= deadline_of(order.request, order.auction_us)

    def _end(self, order: OrderRecord, now: datetime) -> list[VenueEvent]:
        """Cancel a working order; the children that waited for it end, or start with what it filled."""
        if order.is_done:  # a relative that ended in the same breath has taken it along
            return []
        was_held = order.held
        self._state.set_status(order, "Cancelled", now)
        events: list[VenueEvent] = [] if was_held else [OrderChanged(order.snapshot())]
        return [*events, *_told(order, CANCELLED), *self._end_family(order, now)]

    def _end_family(self, order: OrderRecord, now: datetime) -> list[VenueEvent]:
        events: list[VenueEvent] = []
        for child in self._families.children(order):
            events.extend(self._start_child(child, order, now) if order.filled else self._end(child, now))
        return events

    def _start_child(self, child: OrderRecord, parent: OrderRecord, now: datetime) -> list[VenueEvent]:
        """The parent is done: its child meets the market from now on, cut to what the parent filled."""
        if child.is_done:
            return []
        quantity = families.child_quantity(child, parent, self._entry.instrument(child).size_increment)
        child.since_us = max(child.since_us, to_micros(now))
        self._matcher.entered(child, parent, now)
        if quantity == child.request.quantity:
            self._state.put_order(child)
            return []
        return self._resize(child, quantity - child.filled, now)

    def _resize(self, order: OrderRecord, remaining: Decimal, now: datetime) -> list[VenueEvent]:
        """Leave an order that much to fill, or end it."""
        if order.is_done:
            return []
        if remaining <= 0:
            return self._end(order, now)
        order.request = replace(order.request, quantity=order.filled + remaining)
        self._state.put_order(order)
        return [] if order.held else [OrderChanged(order.snapshot())]

    # working

    def _turn(self, order: OrderRecord, now: datetime, now_us: int) -> list[VenueEvent]:
        """One order's turn in a look at the market."""
        if order.auction_us is None and order.expires_us is not None and order.expires_us <= now_us:
            return self._end(order, now)
        if (order.starts_us is not None and now_us < order.starts_us) or self._families.waits(order):
            return []
        before = order.remaining
        events = self._matcher.work(order, now)
        if order.remaining < before:
            events.extend(self._after_fill(order, before, now))
        missed = order.auction_us is not None and now_us >= order.auction_us
        looked = self._market.look is not Look.NONE and order.request.tif in _AT_ONCE
        if not order.is_done and (missed or looked):
            events.extend(self._end(order, now))
        return events

    def _after_fill(self, order: OrderRecord, before: Decimal, now: datetime) -> list[VenueEvent]:
        """Children of a filled parent start; the other members of a group answer, as IB links them."""
        events: list[VenueEvent] = []
        if order.status == "Filled":
            events.extend(
                event for child in self._families.children(order) for event in self._start_child(child, order, now)
            )
        if order.request.oca_group:
            fill = families.GroupFill(order, before - order.remaining, before)
            if self._families.group_type(order) == REDUCE_OPEN:
                self._answers.append(fill)
            else:
                events.extend(self._answer(fill, now))
        return events

    def _answer(self, fill: families.GroupFill, now: datetime) -> list[VenueEvent]:
        group_type = self._families.group_type(fill.order)
        events: list[VenueEvent] = []
        for other in self._families.others(fill.order):
            step = self._entry.instrument(other).size_increment
            events.extend(self._resize(other, families.left_after(other, fill, group_type, step), now))
        return events

    def _closed_look(self, events: list[VenueEvent], now: datetime) -> list[VenueEvent]:
        """The look is over: groups without block answer to what filled in it."""
        while self._answers:
            events = [*events, *self._answer(self._answers.pop(0), now)]
        return events


def _told(order: OrderRecord, said: Refusal) -> list[VenueEvent]:
    """What the API says about an order; of one typed into TWS and not bound it cannot say anything."""
    return [OrderError(*order.key, said.code, said.text)] if order.request.order_id else []


def _error(request: OrderRequest, refusal: Refusal) -> OrderError:
    return OrderError(request.client_id, request.order_id, refusal.code, refusal.text)
