"""Matching: lets the market work on one order and books what comes of it.

Owns: which stretch of the market counts for an order, how much of it the order may take, its commission.
Leaves: the model (``brokers.fills``, ``brokers.fees``), families of orders (``exchange_orders``).
Rule: an order meets only the market after it was placed, since the last look, and of the session that runs. After a
restart it meets all since it was placed: the path is the same, so it fills by what happened while the venue was down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from trading.brokers import fees, fills
from trading.gateway.account import RateOf
from trading.gateway.derivatives import future_of
from trading.gateway.exchange_state import OrderRecord, VenueState
from trading.gateway.hours import from_micros, to_micros
from trading.gateway.market import Market
from trading.gateway.model import AccountChanged, Contract, Executed, OrderChanged, PositionChanged, VenueEvent

ZERO = Decimal(0)
# Of what trades by, an order gets a fifth: more would move the price.
PARTICIPATION = Decimal("0.2")
OPTION_FEE, OPTION_MINIMUM, OTHER_FUTURE_FEE = Decimal("0.65"), Decimal("1.00"), Decimal("2.25")


@dataclass(frozen=True, slots=True)
class DeskOptions:
    """How orders are worked."""

    partial_fills: bool
    commission_delay: timedelta


class Matcher:
    """Matches orders against the market. Not thread-safe."""

    def __init__(
        self, market: Market, state: VenueState, options: DeskOptions, rate_of: Callable[[datetime], RateOf]
    ) -> None:
        self._market, self._state, self._options, self._rate_of = market, state, options, rate_of
        self._looked_us = 0
        # What the market did since the last look, once for all orders of an instrument.
        self._stretches: dict[tuple[int, int, int], fills.Stretch] = {}

    def looked(self, now: datetime) -> None:
        """Every order has met the market up to ``now``."""
        # A clock that is set back must not let the market pass twice.
        self._looked_us = max(self._looked_us, to_micros(now))
        self._stretches.clear()

    def work(self, order: OrderRecord, now: datetime) -> list[VenueEvent]:
        """Match an order against what the market did since it was last looked at."""
        con_id = order.contract.con_id
        if not self._market.is_open(con_id, now, outside_rth=order.request.outside_rth):
            return []
        outcome = fills.match(_fill_order(order), self._stretch(order, now))
        moved = outcome.triggered and not order.triggered
        if moved:
            order.triggered = True
            self._state.set_status(order, "Submitted", now)
        if outcome.quantity:
            events = self.execute(order, outcome.quantity, outcome.price, now)
            return [*events, PositionChanged(con_id), AccountChanged()]
        if order.status == "PreSubmitted" and order.request.order_type != "STP":
            self._state.set_status(order, "Submitted", now)
            moved = True
        return [OrderChanged(order.snapshot())] if moved else []

    def execute(self, order: OrderRecord, quantity: Decimal, price: Decimal, now: datetime) -> list[VenueEvent]:
        """Book one execution."""
        before = order.traded
        multiplier = Decimal(order.contract.multiplier or 1)
        after = fees.Traded(before.quantity + quantity, before.value + quantity * price * multiplier, before.is_sell)
        fee = fees.execution_fee(self.schedule(order.contract, now), before, after)
        entry = self._state.add_execution(order, quantity, price, fee, now, now + self._options.commission_delay)
        return [Executed(entry.execution), OrderChanged(order.snapshot())]

    def schedule(self, contract: Contract, now: datetime) -> fees.FeeSchedule:
        """The fees of a contract."""
        if contract.sec_type == "OPT":
            return fees.PerContractFees(OPTION_FEE, OPTION_MINIMUM)
        if contract.sec_type == "FUT":
            found = future_of(contract.con_id)
            return fees.PerContractFees(OTHER_FUTURE_FEE if found is None else found.root.fee)
        if contract.sec_type != "CASH":
            return fees.FixedStockFees()
        # The minimum of 2 USD, in the currency that the pair is quoted in.
        rate = self._rate_of(now)
        return fees.ForexFees(minimum=(2 * rate("USD") / rate(contract.currency)).quantize(Decimal("0.01")))

    def _stretch(self, order: OrderRecord, now: datetime) -> fills.Stretch:
        con_id, now_us = order.contract.con_id, to_micros(now)
        opened = self._market.session_start(con_id, now, outside_rth=order.request.outside_rth)
        since = min(max(order.since_us, self._looked_us, 0 if opened is None else to_micros(opened)), now_us)
        key = (con_id, since, now_us)
        stretch = self._stretches.get(key)
        if stretch is None:
            stretch = self._stretches[key] = self._market.stretch(con_id, from_micros(since), now)
        if not self._options.partial_fills:
            return replace(stretch, volume=None)
        shown = self._market.displayed(con_id, now, buying=order.is_buy)
        return replace(stretch, volume=max(shown, (stretch.volume or ZERO) * PARTICIPATION))


def _fill_order(order: OrderRecord) -> fills.FillOrder:
    request = order.request
    return fills.FillOrder(
        is_buy=order.is_buy,
        order_type=request.order_type,
        remaining=order.remaining,
        limit=request.limit_price,
        stop=request.aux_price,
        triggered=order.triggered,
    )
