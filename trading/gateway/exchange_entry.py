"""From a request to an order on the books: resolve, read, check, date, record.

Owns: everything that must hold before an order exists or changes, the moments it starts and ends, its margin impact.
Leaves: announcing and working it (``exchange_orders``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from trading.brokers import fees
from trading.gateway import exchange_checks as checks
from trading.gateway import exchange_combos as combos
from trading.gateway import hours
from trading.gateway.account import RateOf, Trade
from trading.gateway.exchange_auctions import Auction, auction_of
from trading.gateway.exchange_families import Families
from trading.gateway.exchange_matching import DeskOptions, Matcher
from trading.gateway.exchange_price_checks import Case
from trading.gateway.exchange_records import OrderRecord
from trading.gateway.exchange_state import VenueState
from trading.gateway.exchange_terms import TRAILING, Terms, normal, read_terms, works_outside_rth
from trading.gateway.hours import to_micros
from trading.gateway.instruments import Instrument, InstrumentTable
from trading.gateway.market import Market
from trading.gateway.model import Contract, OrderRequest, RequestError, WhatIf

_LIMITED = frozenset({"LMT", "LOC", "STP LMT", "LIT"})


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that passed the checks."""

    request: OrderRequest
    contract: Contract
    instrument: Instrument
    terms: Terms
    auction: Auction | None

    legs: tuple[combos.Leg, ...] = ()


class Entry:
    """Checks requests and writes orders into the state. Not thread-safe."""

    def __init__(
        self,
        table: InstrumentTable,
        market: Market,
        state: VenueState,
        matcher: Matcher,
        options: DeskOptions,
        rate_of: Callable[[datetime], RateOf],
    ) -> None:
        self._table, self._market, self._state, self._matcher = table, market, state, matcher
        self._options, self._rate_of = options, rate_of
        self._families = Families(state)

    def prepare(self, request: OrderRequest, now: datetime, *, changes: OrderRecord | None = None) -> Prepared:
        """Resolve and check a request, for a new order or as a change of a working one.

        Raises: RequestError with IB's code and text.
        """
        request = normal(request if request.tif else replace(request, tif="DAY"))
        instrument, contract = combos.resolve_order(self._table, request)
        terms = read_terms(request, instrument.time_zone)
        auction = None
        if changes is None or changes.auction_us is None:
            auction = auction_of(request, instrument, now, exchange_hours=self._market.exchange_hours)
        case = Case(request, instrument, terms, now, auction, self._options.size_limit)
        refusal = checks.refuse_account(request, self._state.account.account_id)
        if refusal is None and changes is None:
            parent = self._state.orders.get((request.client_id, request.parent_id))
            refusal = checks.refuse_parent(parent, request)
        elif refusal is None and changes is not None:
            refusal = checks.refuse_modification(changes, case, contract.con_id)
        refusal = refusal or checks.refuse_order(case)
        if refusal is None and changes is None and self._families.is_closed(request.oca_group):
            refusal = checks.GROUP_CLOSED
        if refusal is not None:
            raise RequestError(refusal.code, refusal.text)
        legs = combos.resolve_legs(self._table, terms.legs) if terms.legs else ()
        return Prepared(request, contract, instrument, terms, auction, legs)

    def record(self, prepared: Prepared, now: datetime, *, manual: bool = False) -> OrderRecord:
        """Write a new order into the state."""
        request, terms, perm_id = prepared.request, prepared.terms, self._state.next_perm_id()
        parent = self._state.orders.get((request.client_id, request.parent_id)) if request.parent_id else None
        group = request.oca_group or (str(parent.perm_id) if parent is not None else "")
        starts_us = None if terms.good_after is None else to_micros(terms.good_after)
        order = OrderRecord(
            request=replace(request, transmit=True, oca_group=group),
            contract=prepared.contract,
            perm_id=perm_id,
            placed_us=to_micros(now),
            since_us=max(to_micros(now), starts_us or 0),
            held=not request.transmit,
            manual=manual,
            expires_us=self._expiry(prepared, now),
            starts_us=starts_us,
            auction_us=None if prepared.auction is None else to_micros(prepared.auction.at),
        )
        self._state.put_order(order)
        return self._state.by_perm[perm_id]

    def record_unchecked(self, request: OrderRequest, con_id: int, now: datetime) -> OrderRecord:
        """Write an order that nobody checks."""
        instrument = self._table.get(con_id)
        return self.record(Prepared(request, instrument.contract, instrument, Terms(), None), now)

    def change(self, order: OrderRecord, prepared: Prepared, now: datetime) -> None:
        """Write a modification into the state."""
        request, before = prepared.request, order.terms
        terms = prepared.terms
        order.request = replace(request, transmit=True)
        order.starts_us = None if terms.good_after is None else to_micros(terms.good_after)
        order.since_us = max(to_micros(now), order.starts_us or 0)
        order.expires_us = self._expiry(prepared, now)
        if prepared.auction is not None:
            order.auction_us = to_micros(prepared.auction.at)
        if request.order_type in TRAILING and not order.triggered:
            order.stop = _stop_after_change(order, before, terms)
        self._state.put_order(order)

    def instrument(self, order: OrderRecord) -> Instrument:
        """The instrument of an order; a combination's is as its first leg."""
        return order.legs[0].instrument if order.legs else self._table.get(order.contract.con_id)

    def impact(self, request: OrderRequest, order: OrderRecord, now: datetime) -> WhatIf:
        """Margin and commission of a request for an order's contract."""
        trades = self._leg_trades(request, order, now) if order.legs else [self._trade(request, order.contract, now)]
        return self._state.account.what_if(
            trades, lambda con_id: self._market.mark(con_id, now), self._rate_of(now)
        )  # fmt: skip

    def _trade(self, request: OrderRequest, contract: Contract, now: datetime) -> Trade:
        limit = request.limit_price if request.order_type in _LIMITED else None
        price = limit or self._market.mark(contract.con_id, now)
        return self._traded(contract, request.quantity, price, now, is_sell=request.action == "SELL")

    def _leg_trades(self, request: OrderRequest, order: OrderRecord, now: datetime) -> list[Trade]:
        trades = []
        for leg in order.legs:
            price = self._market.mark(leg.contract.con_id, now)
            is_sell = (leg.ratio > 0) is (request.action == "SELL")
            trades.append(
                self._traded(leg.contract, request.quantity * abs(leg.ratio), price, now, is_sell=is_sell)
            )  # fmt: skip
        return trades

    def _traded(self, contract: Contract, quantity: Decimal, price: Decimal, now: datetime, *, is_sell: bool) -> Trade:
        value = quantity * price * Decimal(contract.multiplier or 1)
        commission = self._matcher.schedule(contract, now).total(fees.Traded(quantity, value, is_sell))
        return Trade(contract, -quantity if is_sell else quantity, price, commission)

    def _expiry(self, prepared: Prepared, now: datetime) -> int | None:
        """The end of the session or, where the market never sleeps, of the New York day."""
        request, instrument = prepared.request, prepared.instrument
        if request.tif == "GTC":
            return None
        if request.tif == "GTD" and prepared.terms.good_till is not None:
            return to_micros(prepared.terms.good_till)
        begins = max(now, prepared.terms.good_after or now)
        if self._market.exchange_hours:
            extended = works_outside_rth(request, prepared.contract.sec_type)
            closing = hours.next_close(instrument.calendar, begins, extended=extended)
            if closing is not None:
                return to_micros(closing)
        midnight = begins.astimezone(hours.NEW_YORK).replace(hour=0, minute=0, second=0, microsecond=0)
        return to_micros(midnight + timedelta(days=1))


def _stop_after_change(order: OrderRecord, before: Terms, after: Terms) -> Decimal | None:
    """Where a trailing stop stands after a change; None: it begins anew, as another distance makes it.

    Clients send back the stop that they saw last, which may have moved since: only a better one counts.
    """
    if (before.trail, before.trail_percent) != (after.trail, after.trail_percent):
        return None
    if order.stop is None or after.trail_stop is None:
        return order.stop
    better = min if order.is_buy else max
    return better(order.stop, after.trail_stop)
