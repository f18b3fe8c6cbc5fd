"""Where a run's orders begin and end: numbers, fees, slippage, the lists of fills and orders.

Owns: what a fill costs and does to books and relatives, the exits that a filled entry leaves behind.
Leaves: prices and when an order meets the market (``lane``), whether it may be placed (``executor``).
Rule: what was placed to close never opens. Each pair of exits shares one quantity; when the position shrinks by other
means the oldest pairs shrink with it, and they end with it. So do a strategy's own closing orders, the newest first.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from strategies.order_types import Terms
from trading.backtest.contracts import BacktestOrder, Models, NoSlippage
from trading.backtest.orders import WorkingOrder
from trading.brokers.fees import Traded

if TYPE_CHECKING:
    from trading.backtest.book import Holding

ZERO = Decimal(0)
_PLACES = Decimal("0.000001")  # as brokers.fees.execution_fee rounds


class Desk:
    """Shared by all lanes and executors of one run."""

    __slots__ = ("_price", "at", "fills", "models", "next_id", "now_ns", "orders", "slips")

    def __init__(self, models: Models) -> None:
        self.models = models
        # Rows of BacktestFill and BacktestOrder as plain tuples: the collector of garbage lets go of those, so that a
        # million of them cost no more than a thousand.
        self.fills: list[tuple[Any, ...]] = []
        self.orders: list[tuple[Any, ...]] = []  # that ended, as they ended
        self.next_id = 1
        self.at = 0  # index of the present moment in the clock
        self.now_ns = 0
        self._price = ZERO  # of the last fill
        self.slips = type(models.slippage) is not NoSlippage

    def place(
        self,
        strategy: str,
        holding: Holding,
        is_buy: bool,
        quantity: Decimal,
        terms: Terms,
        reason: str,
        size: float | None = None,
    ) -> WorkingOrder:
        """Let an order work from the next bar that begins now or later; ``size`` is its quantity as a float.

        Raises: OrderDeniedError (too_late).
        """
        if size is None:
            size = float(quantity)
        order = WorkingOrder(self.next_id, strategy, holding, is_buy, quantity, terms, reason, size)
        order.placed_ns = self.now_ns
        holding.lane.add(order, self.now_ns)
        self.next_id += 1
        holding.orders.append(order)
        holding.book.working += 1
        return order

    def fill(
        self, order: WorkingOrder, quantity: Decimal, price: Decimal, time_ns: int, price_f: float | None = None
    ) -> None:
        """Book an execution and what follows from it; ``price_f`` is the price where a float is at hand already."""
        if self.slips and order.slips:
            price, price_f = self.models.slippage.worsen(price, order.is_buy), None
        self._price = price
        holding = order.holding
        held, is_buy = holding.held, order.is_buy
        worth = quantity * price
        if not holding.is_single:
            worth *= holding.multiplier
        fee = ZERO if holding.fees is None else self._fee(order, quantity, worth)
        signed = quantity if is_buy else -quantity
        book = holding.book
        realized = book.apply(holding, signed, price, -worth if is_buy else worth, fee)
        size = order.size_f if quantity is order.quantity else float(quantity)
        if is_buy:
            size = -size
        flow = size * (float(price) if price_f is None else price_f) * holding.multiplier_f
        book.note(holding, self.at, -size, flow, fee)
        self.fills.append(
            (
                time_ns,
                order.strategy,
                holding.lane.symbol,
                signed,
                price,
                fee,
                order.id,
                order.terms.order_type,
                order.reason,
                realized,
            )
        )
        if quantity is order.remaining and not order.filled:
            order.filled, order.remaining = quantity, ZERO
        else:
            order.filled += quantity
            order.remaining -= quantity
        if order.watcher is not None:
            order.watcher.filled(quantity, price, fee, time_ns)
        if not order.remaining:
            self.end(order, "filled", time_ns)
        if not order.is_plain and order.sibling is not None:
            self._shrink(order.sibling, quantity, time_ns)
        if held and (holding.exits or holding.orders):
            self.fit_exits(holding, time_ns)
            self.fit_closers(holding, time_ns)

    def _fee(self, order: WorkingOrder, quantity: Decimal, worth: Decimal) -> Decimal:
        """The share of the order's commission that this execution bears; see ``brokers.fees.execution_fee``."""
        holding = order.holding
        if order.filled:
            before, quantity, worth = order.fee, order.filled + quantity, order.value + worth
        else:
            before = holding.fee_of_nothing[order.is_buy]
        traded = tuple.__new__(Traded, (quantity, worth, not order.is_buy))  # half the time of the constructor
        after = holding.fees.total(traded)  # type: ignore[union-attr]
        order.fee, order.value = after, worth
        return (after - before).quantize(_PLACES) if before else after.quantize(_PLACES)

    def end(self, order: WorkingOrder, state: str, at_ns: int | None, why: str = "") -> None:
        """Take an order from the market; an entry that filled leaves its exits."""
        holding = order.holding
        holding.lane.working.remove(order)
        self.orders.append(order.record(state, at_ns, why))
        if order.is_exit:
            holding.exits.remove(order)
            if order.sibling is not None:
                order.sibling.sibling = None
        else:
            holding.orders.remove(order)
            holding.book.working -= 1
            if order.exits and order.filled:
                self._protect(order)
        if order.watcher is not None:
            order.watcher.ended(state, why)

    def deny(self, row: BacktestOrder) -> None:
        """Put on record what was not let to the market; its number is the next."""
        self.orders.append(tuple(row))
        self.next_id += 1

    def cancel(self, order: WorkingOrder, why: str = "") -> None:
        """Take an order back at the present moment."""
        self.end(order, "cancelled", self.now_ns, why)

    # -- exits

    def _protect(self, entry: WorkingOrder) -> None:
        """Place the exits of what an ended entry opened."""
        holding = entry.holding
        opened = entry.filled - entry.closes
        if opened <= 0 or not holding.held or (holding.held > 0) is not entry.is_buy:
            return
        opened = min(opened, abs(holding.held))
        pair: list[WorkingOrder] = []
        for one in entry.exits:
            order = WorkingOrder(
                self.next_id, entry.strategy, holding, not entry.is_buy, opened, one.terms, one.name, float(opened)
            )
            order.placed_ns = self.now_ns
            order.is_exit, order.watcher = True, one.watcher
            self.next_id += 1
            holding.exits.append(order)
            holding.lane.add_exit(order, self._price)
            pair.append(order)
            if one.watcher is not None:
                one.watcher.began(order)
        if len(pair) == 2:
            pair[0].sibling, pair[1].sibling = pair[1], pair[0]
        self.fit_exits(holding, self.now_ns)

    def fit_exits(self, holding: Holding, at_ns: int) -> None:
        """Cut the exits to what is held, the oldest first."""
        held = holding.held
        left = [order for order in holding.exits if order.is_buy is (held < 0)] if held else []
        for order in [order for order in holding.exits if order not in left]:
            if order in holding.exits:  # its sibling may have taken it along
                self.end(order, "cancelled", at_ns, "the position is closed")
        pairs = [order for order in left if order.sibling is None or order.id < order.sibling.id]
        surplus = sum((order.remaining for order in pairs), ZERO) - abs(held)
        for order in pairs:
            if surplus <= 0:
                return
            cut = min(surplus, order.remaining)
            surplus -= cut
            sibling = order.sibling
            self._shrink(order, cut, at_ns)
            if sibling is not None:
                self._shrink(sibling, cut, at_ns)

    def fit_closers(self, holding: Holding, at_ns: int) -> None:
        """Cut orders that were placed to close to what is held, the newest first: what closes never opens."""
        held = holding.held
        left = abs(held)
        for order in list(holding.orders):
            closes = min(order.closes - order.filled, order.remaining)
            if closes <= 0:
                continue
            room = left if held and order.is_buy is (held < 0) else ZERO
            cut = closes - min(closes, room)
            left -= closes - cut
            if cut:
                order.closes -= cut
                order.cut(cut)
                if order.remaining <= 0:
                    self.end(order, "cancelled", at_ns, "there is nothing left to close")

    def _shrink(self, order: WorkingOrder, quantity: Decimal, at_ns: int) -> None:
        """Take a quantity from an order without a fill."""
        if order not in order.holding.exits:
            return
        order.cut(quantity)
        if order.remaining <= 0:
            self.end(order, "cancelled", at_ns, "the other exit filled, or the position is closed")
