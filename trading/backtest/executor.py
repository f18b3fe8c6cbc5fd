"""From a strategy's signals to working orders, as the live executor does it.

Owns: one strategy's books in a run, the cash check, denials. Leaves: what a signal means (``market.signal_rules``),
what becomes of orders (``desk``, ``lane``).
Rule: a signal that is refused costs the strategy nothing but the order: it is listed as denied, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from strategies.exceptions import ConfigError, OrderDeniedError, StrategyError
from strategies.order_types import Terms
from strategies.reactive import Signal, SignalAction
from trading.backtest.book import Book, Holding
from trading.backtest.contracts import BacktestOrder, StrategyEntry
from trading.backtest.desk import Desk
from trading.backtest.lane import Lane
from trading.backtest.orders import Exit
from trading.brokers.fees import Traded
from trading.market.signal_executor import check_repeat
from trading.market.signal_rules import Gates, Plan, gates_of, plan_signal
from trading.market.signal_terms import MARKET

ZERO = Decimal(0)
_SURELY = 1.000001  # floats and decimals differ by far less


class Executor:
    """Turns the signals of one strategy into orders on its own books."""

    __slots__ = (
        "_allow_repeats", "_check_cash", "_denied", "_desk", "book", "currency", "gates", "holdings", "name", "signals",
    )  # fmt: skip

    def __init__(self, entry: StrategyEntry, lanes: Mapping[str, Lane], desk: Desk) -> None:
        self.name = entry.name
        self.book = Book(entry.cash)
        self.holdings = self.book.holdings
        for symbol, lane in lanes.items():
            self.holdings[symbol] = Holding(self.book, lane)
        self.gates: Gates = entry.gates or gates_of(entry.config, allow_short=desk.models.allow_short)
        self.signals = 0
        self._denied = 0
        self.currency = ""
        self._desk = desk
        self._check_cash = desk.models.check_cash
        self._allow_repeats = bool(entry.config.get("allow_repeats", True))

    def keep_currency(self, symbols: Iterable[str]) -> None:
        """Keep the books in the one currency of these symbols.

        Raises: ConfigError (other_currency): nothing is converted here, and sums over currencies are wrong.
        """
        found = sorted({self.holdings[symbol].currency for symbol in symbols})
        if len(found) > 1:
            raise ConfigError(
                f"{self.name} would trade in {' and '.join(found)}; a strategy of a backtest keeps one currency.",
                code="other_currency",
            )
        self.currency = found[0] if found else ""

    def take(self, signals: Sequence[Signal]) -> None:
        """Do what the signals ask for, one after the other.

        Raises: StrategyError when the strategy answered with something else than signals.
        """
        for signal in signals:
            if type(signal) is not Signal and not isinstance(signal, Signal):
                raise StrategyError(f"on_bars of {self.name} answered with {signal!r}, which is no Signal.")
            self.signals += 1
            holding = self.holdings.get(signal.symbol)
            try:
                if holding is None:
                    raise OrderDeniedError(f"The run has no bars of {signal.symbol}.", code="no_bars")
                if holding.currency != self.currency:
                    raise self._other_currency(holding)
                if not self._allow_repeats:
                    check_repeat(signal, holding, allowed=False)
                plan = plan_signal(signal, holding, self.gates)
                if plan is not None:
                    self._do(signal, plan, holding)
            except OrderDeniedError as error:
                self._deny(signal, error)

    def aim(self, symbol: str, target: float) -> bool:
        """Order what leads to a position, taking back what works; tell whether it was not refused."""
        holding = self.holdings[symbol]
        wanted = Decimal(int(target)) if target.is_integer() else Decimal(repr(target))
        if wanted == holding.held + holding.buying - holding.selling:
            return True
        for order in list(holding.orders):
            self._desk.cancel(order, "the target changed")
        change = wanted - holding.held
        if not change:
            return True
        action = SignalAction.BUY if change > 0 else SignalAction.SELL
        denied = self._denied
        units = abs(change)
        self.take([Signal(symbol, action, int(units) if units == int(units) else units)])
        return self._denied == denied

    def _do(self, signal: Signal, plan: Plan, holding: Holding) -> None:
        if plan.cancel_working:
            for order in list(holding.orders):
                self._desk.cancel(order, "the strategy closed")
        if not plan.quantity:
            return
        if (plan.stop_loss or plan.take_profit) is not None and plan.opens != abs(plan.quantity):
            plan = self._close_first(signal, plan, holding)
        is_buy = plan.quantity > 0
        quantity = abs(plan.quantity)
        # As the signal says it, where the plan leaves it as it is: an int becomes a float at a fifth of the cost.
        as_given = type(signal.quantity) is int and not plan.note and signal.action is not SignalAction.CLOSE
        size = float(signal.quantity if as_given else quantity)  # type: ignore[arg-type]
        if plan.opens and self._check_cash and not self._is_cheap(plan, holding, size):
            if signal.quantity is None:
                plan = self._fit(plan, holding)
                quantity = abs(plan.quantity)
                size = float(quantity)
            else:
                self._afford(plan, holding)
        order = self._desk.place(self.name, holding, is_buy, quantity, plan.terms, signal.reason, size)
        if plan.opens != quantity:
            order.closes = quantity - plan.opens
        if plan.stop_loss is not None or plan.take_profit is not None:
            order.exits = exits_of(plan.stop_loss, plan.take_profit)

    def _close_first(self, signal: Signal, plan: Plan, holding: Holding) -> Plan:
        """Close in an order of its own; return the rest of the plan. Exits are sized by their entry, live as well."""
        opens, note = plan.opens if plan.quantity > 0 else -plan.opens, plan.note or "in two orders"
        closing = Plan(plan.quantity - opens, plan.terms, note=note)
        self._do(signal, closing, holding)
        return plan._replace(quantity=opens, cancel_working=False, note=note)

    def _is_cheap(self, plan: Plan, holding: Holding, size: float) -> bool:
        """Tell that a market order surely can be paid, in floats; False leaves it to ``_afford``."""
        book, share = self.book, holding.fee_share
        if share is None or book.shorts or book.working or plan.terms is not MARKET:
            return False
        cost = size * holding.lane.last_float() * holding.multiplier_f
        return cost * (1.0 + share) * _SURELY < book.cash_f

    def _afford(self, plan: Plan, holding: Holding) -> None:
        """Refuse what would cost more than there is, beside what working orders may still cost."""
        cost, free = self._cost(plan, holding, plan.opens), self._free()
        if cost > free:
            raise OrderDeniedError(
                f"{plan.opens:f} {holding.lane.symbol} cost about {cost:.2f}; {free:.2f} is free.", code="no_cash"
            )

    def _fit(self, plan: Plan, holding: Holding) -> Plan:
        """Cut an entry that names no quantity to what the cash pays for: sized by equity it leaves nothing for fees.

        Raises: OrderDeniedError (no_cash) when not one lot is left, no_price.
        """
        free, opens, lot = self._free(), plan.opens, holding.lot
        while opens > 0 and (cost := self._cost(plan, holding, opens)) > free:
            fits = opens * max(free, ZERO) / cost
            opens = min((fits / lot).to_integral_value(ROUND_FLOOR) * lot, opens - lot)
        if opens <= 0:
            self._afford(plan, holding)
        left = plan.opens - opens
        return plan._replace(quantity=plan.quantity - left if plan.quantity > 0 else plan.quantity + left, opens=opens)

    def _cost(self, plan: Plan, holding: Holding, opens: Decimal) -> Decimal:
        price = highest_price(plan.terms, holding.price)
        if price is None:
            raise OrderDeniedError(f"{holding.lane.symbol} has no price yet.", code="no_price")
        cost = opens * abs(price) * holding.multiplier
        if holding.fees is not None:
            cost += holding.fees.total(Traded(opens, cost, plan.quantity < 0))
        return cost

    def _free(self) -> Decimal:
        book = self.book
        return book.available() - self._reserved() if book.shorts or book.working else book.cash

    def _reserved(self) -> Decimal:
        """What working entries may still cost, at their own prices."""
        total = ZERO
        for holding in self.holdings.values():
            for order in holding.orders:
                opens = order.remaining - max(order.closes - order.filled, ZERO)
                price = highest_price(order.terms, holding.price)
                if opens > 0 and price is not None:
                    total += opens * abs(price) * holding.multiplier
        return total

    def _other_currency(self, holding: Holding) -> OrderDeniedError:
        return OrderDeniedError(
            f"{holding.lane.symbol} trades in {holding.currency}; the books of {self.name} are in {self.currency}.",
            code="other_currency",
        )

    def _deny(self, signal: Signal, error: OrderDeniedError) -> None:
        desk = self._desk
        self._denied += 1
        quantity: Any = signal.quantity
        side = str(getattr(signal.action, "value", signal.action))
        size = Decimal(str(quantity)) if isinstance(quantity, int | float | Decimal) else ZERO
        kind = signal.order_type or ("MKT" if signal.price is None else "LMT")
        now, text = desk.now_ns, error.message
        desk.deny(
            BacktestOrder(
                desk.next_id, self.name, signal.symbol, now, now, side, size, ZERO, kind, None, None, "denied", text
            )
        )


def exits_of(stop_loss: Decimal | None, take_profit: Decimal | None) -> tuple[Exit, ...]:
    """Return the exits of an entry, good till they are cancelled."""
    found = []
    if stop_loss is not None:
        found.append(Exit(Terms("STP", stop=stop_loss, tif="GTC"), "stop loss"))
    if take_profit is not None:
        found.append(Exit(Terms("LMT", limit=take_profit, tif="GTC"), "take profit"))
    return tuple(found)


def highest_price(terms: Terms, price: Decimal | None) -> Decimal | None:
    """What an order may have to pay: its limit, else the higher of its trigger and the last price."""
    if terms.limit is not None:
        return terms.limit
    if terms.stop is not None and price is not None:
        return max(terms.stop, price)
    return price
