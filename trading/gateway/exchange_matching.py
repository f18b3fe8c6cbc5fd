"""Matching: lets the market work on one order and books what comes of it.

Owns: which stretch of the market counts for an order, how much of it the order may take, its commission.
Leaves: the model (``brokers.fills``, ``brokers.fees``), families of orders (``exchange_orders``).
Rule: an order meets only the market after it was placed, since the last look, and of the session that runs. After a
restart it meets all since it was placed: the path is the same, so it fills by what happened while the venue was down.
An auction takes every order whole, at the price of its moment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from trading.brokers import fees, fills
from trading.gateway import exchange_combos as combos
from trading.gateway.account import RateOf
from trading.gateway.derivatives import future_of
from trading.gateway.exchange_records import LegTrade, OrderRecord
from trading.gateway.exchange_state import VenueState
from trading.gateway.exchange_terms import TRAILING
from trading.gateway.hours import from_micros, to_micros
from trading.gateway.market import Market
from trading.gateway.market_steps import Look
from trading.gateway.model import AccountChanged, Contract, Executed, OrderChanged, PositionChanged, VenueEvent

ZERO = Decimal(0)
# Of what trades by, an order gets a fifth: more would move the price.
PARTICIPATION = Decimal("0.2")
# These stay PreSubmitted until the market triggers them.
_WAITING = frozenset({"STP", "STP LMT", "MIT", "LIT", *TRAILING})


@dataclass(frozen=True, slots=True)
class DeskOptions:
    """How orders are worked."""

    partial_fills: bool
    commission_delay: timedelta
    processing: timedelta = timedelta(0)  # how long a new order cannot be modified
    max_active: int = 20  # orders of one contract and side
    size_limit: Decimal | None = None
    tif_preset: bool = False  # say 10349 where a client leaves the time in force to the preset


class Matcher:
    """Matches orders against the market. Not thread-safe."""

    def __init__(
        self, market: Market, state: VenueState, options: DeskOptions, rate_of: Callable[[datetime], RateOf]
    ) -> None:
        self._market, self._state, self._options, self._rate_of = market, state, options, rate_of
        self._looked_us = 0
        # What the market did since the last look, once for all orders of an instrument.
        self._stretches: dict[tuple[int, int, int], fills.Stretch] = {}
        self._entries: dict[int, Decimal] = {}  # of the bar that passes: prices at which orders' parents filled

    def looked(self, now: datetime) -> None:
        """Every order has met the market up to ``now``."""
        # A clock that is set back must not let the market pass twice.
        self._looked_us = max(self._looked_us, to_micros(now))
        self._stretches.clear()
        self._entries.clear()

    def is_open(self, order: OrderRecord, now: datetime) -> bool:
        """Tell whether an order's market trades, all legs of a combination."""
        if order.legs:
            return combos.is_open(self._market, order.legs, now, outside_rth=order.outside_rth)
        return self._market.is_open(order.contract.con_id, now, outside_rth=order.outside_rth)

    def work(self, order: OrderRecord, now: datetime) -> list[VenueEvent]:
        """Match an order against what the market did since it was last looked at."""
        if order.auction_us is not None:
            return self._auction(order, now)
        if self._market.look is Look.NONE or not self.is_open(order, now):
            return []
        if not order.legs and not self._market.has_bar(order.contract.con_id):
            return []
        if order.legs:
            combined = combos.stretch(order.legs, lambda leg: self._leg_stretch(order, leg, now))
            return self._take(order, fills.match(_fill_order(order), combined), now)
        stretch = self._left_of_bar(order, now) if self._is_entered(order, now) else self._stretch(order, now)
        if stretch is None:
            return []
        waits = order.request.order_type in _WAITING
        tick = self._market.tick(order.contract.con_id, stretch.last) if waits else None
        outcome = fills.match(_fill_order(order), stretch, tick=tick)
        if self._market.look is Look.OPENING and not outcome.quantity:
            return []  # a stop is triggered or moves within the bar, of which this is the first moment
        return self._take(order, outcome, now)

    def entered(self, child: OrderRecord, parent: OrderRecord, now: datetime) -> None:
        """A parent filled on the way through a bar: its stop meets what is left of that bar."""
        if self._market.look is Look.BAR and parent.since_us >= to_micros(now):
            self._entries[child.perm_id] = parent.last_price

    def _is_entered(self, order: OrderRecord, now: datetime) -> bool:
        """Tell whether an order began to work within the bar that passes."""
        return self._market.look is Look.BAR and order.since_us >= to_micros(now)

    def _left_of_bar(self, order: OrderRecord, now: datetime) -> fills.Stretch | None:
        """The rest of the bar behind an order's entry; None where what came after it is not known to reach it."""
        price = self._entries.get(order.perm_id)
        if price is None or order.request.order_type not in fills.STOPS:
            return None
        whole = self._stretch_since(order.contract.con_id, self._looked_us, now)
        return fills.rest_of(whole, price)

    def _take(self, order: OrderRecord, outcome: fills.Outcome, now: datetime) -> list[VenueEvent]:
        if outcome.stop is not None and outcome.stop != order.stop:
            self._state.trail(order, outcome.stop, now)
        moved = outcome.triggered and not order.triggered
        if moved:
            order.triggered = True
            self._state.set_status(order, "Submitted", now)
        if outcome.quantity:
            return self._execute(order, outcome, now)
        if order.status == "PreSubmitted" and order.request.order_type not in _WAITING:
            self._state.set_status(order, "Submitted", now)
            moved = True
        return [OrderChanged(order.snapshot())] if moved else []

    def _execute(self, order: OrderRecord, outcome: fills.Outcome, now: datetime) -> list[VenueEvent]:
        if order.legs:
            return self._execute_combo(order, outcome, now)
        events = self.execute(order, outcome.quantity, outcome.price, now)
        return [*events, PositionChanged(order.contract.con_id), AccountChanged()]

    def _auction(self, order: OrderRecord, now: datetime) -> list[VenueEvent]:
        if order.auction_us is None or to_micros(now) < order.auction_us or order.since_us > order.auction_us:
            return []  # not yet, or over before the order was free to take part
        at = from_micros(order.auction_us)  # also when it is looked at later: overnight the clock of a replay jumps
        price = self._market.mark(order.contract.con_id, at)
        cross = fills.Stretch(price, price, price, price, price, price, price, opening=price, closing=price)
        outcome = fills.match(_fill_order(order), cross)
        return self._execute(order, outcome, at) if outcome.quantity else []

    def execute(self, order: OrderRecord, quantity: Decimal, price: Decimal, now: datetime) -> list[VenueEvent]:
        """Book one execution."""
        before = order.traded
        multiplier = Decimal(order.contract.multiplier or 1)
        after = fees.Traded(before.quantity + quantity, before.value + quantity * price * multiplier, before.is_sell)
        fee = fees.execution_fee(self.schedule(order.contract, now), before, after)
        entry = self._state.add_execution(order, quantity, price, fee, now, now + self._options.commission_delay)
        return [Executed(entry.execution), OrderChanged(order.snapshot())]

    def _execute_combo(self, order: OrderRecord, outcome: fills.Outcome, now: datetime) -> list[VenueEvent]:
        """Book one execution of a combination and of each leg at the quotes that make its price."""
        priced = combos.leg_prices(
            order.legs, lambda leg: self._leg_stretch(order, leg, now), is_buy=order.is_buy
        )  # fmt: skip
        trades = [
            self._leg_trade(order, leg, outcome.quantity * abs(leg.ratio), buys, price, now)
            for leg, buys, price in priced
        ]
        due = now + self._options.commission_delay
        entries = self._state.add_combo(order, outcome.quantity, outcome.price, trades, now, due)
        changed = [PositionChanged(trade.contract.con_id) for trade in trades]
        executed = [Executed(entry.execution) for entry in entries]
        return [*executed, OrderChanged(order.snapshot()), *changed, AccountChanged()]

    def _leg_trade(
        self, order: OrderRecord, leg: combos.Leg, quantity: Decimal, buys: bool, price: Decimal, now: datetime
    ) -> LegTrade:
        contract = leg.contract
        multiplier = Decimal(contract.multiplier or 1)
        done, average = self._state.leg_filled(order.perm_id, contract.con_id)
        before = fees.Traded(done, done * average * multiplier, not buys)
        after = fees.Traded(done + quantity, before.value + quantity * price * multiplier, not buys)
        fee = fees.execution_fee(self.schedule(contract, now), before, after)
        return LegTrade(contract, quantity if buys else -quantity, price, fee)

    def schedule(self, contract: Contract, now: datetime) -> fees.FeeSchedule:
        """The fees of a contract."""
        if contract.sec_type in ("OPT", "FOP"):
            return fees.US_OPTION_FEES
        if contract.sec_type == "FUT":
            found = future_of(contract.con_id)
            return fees.US_FUTURE_FEES if found is None else fees.PerContractFees(found.root.fee)
        if contract.sec_type != "CASH":
            return fees.FixedStockFees()
        # The minimum of 2 USD, in the currency that the pair is quoted in.
        rate = self._rate_of(now)
        return fees.ForexFees(minimum=(2 * rate("USD") / rate(contract.currency)).quantize(Decimal("0.01")))

    def _leg_stretch(self, order: OrderRecord, leg: combos.Leg, now: datetime) -> fills.Stretch:
        return self._stretch_of(order, leg.contract.con_id, now, buying=(leg.ratio > 0) is order.is_buy)

    def _stretch(self, order: OrderRecord, now: datetime) -> fills.Stretch:
        return self._stretch_of(order, order.contract.con_id, now, buying=order.is_buy)

    def _stretch_of(self, order: OrderRecord, con_id: int, now: datetime, *, buying: bool) -> fills.Stretch:
        now_us = to_micros(now)
        opened = self._market.session_start(con_id, now, outside_rth=order.outside_rth)
        since = min(max(order.since_us, self._looked_us, 0 if opened is None else to_micros(opened)), now_us)
        stretch = self._stretch_since(con_id, since, now)
        if not self._options.partial_fills:
            return replace(stretch, volume=None)
        shown = self._market.displayed(con_id, now, buying=buying)
        return replace(stretch, volume=max(shown, (stretch.volume or ZERO) * PARTICIPATION))

    def _stretch_since(self, con_id: int, since_us: int, now: datetime) -> fills.Stretch:
        key = (con_id, since_us, to_micros(now))
        stretch = self._stretches.get(key)
        if stretch is None:
            stretch = self._stretches[key] = self._market.stretch(con_id, from_micros(since_us), now)
        return stretch


def _fill_order(order: OrderRecord) -> fills.FillOrder:
    request, terms = order.request, order.terms
    trailing = request.order_type in TRAILING
    return fills.FillOrder(
        is_buy=order.is_buy,
        order_type=request.order_type,
        remaining=order.remaining,
        limit=request.limit_price,
        stop=(order.stop or terms.trail_stop) if trailing else request.aux_price,
        triggered=order.triggered,
        trail=terms.trail,
        trail_percent=terms.trail_percent,
        limit_offset=terms.limit_offset,
        at_open=request.tif == "OPG",
        whole=request.tif == "FOK" or request.echo.get("allOrNone") == "1",
    )
