"""The books of one strategy in a run: cash, positions and what they earned, in Decimal, once per fill.

Owns: the arithmetic of ``portfolio.ledger.positions`` without its objects (tests hold both equal), what a signal's
rules ask about a symbol. Leaves: the equity curve (``curve``), which fills there are (``lane``).
Rule: as in the ledger, the basis is carried instead of the average, every term is rounded once where it is made, and
cash + Σ basis = start cash + realised − fees + dividends, to the last digit.
"""

from __future__ import annotations

from array import array
from decimal import Decimal
from typing import TYPE_CHECKING

from portfolio.ledger.money import CONTEXT, QUANTUM, exact
from portfolio.ledger.positions import average_cost
from trading.backtest.contracts import NoFees
from trading.backtest.orders import MARKET
from trading.brokers.fees import NO_REGULATORY_FEES, FeeSchedule, FixedStockFees, Traded

if TYPE_CHECKING:
    from trading.backtest.lane import Lane
    from trading.backtest.orders import WorkingOrder

ZERO = Decimal(0)
_SET_RIGHT = 63  # every 64th fill


class Steps:
    """How one figure moved: ``after`` is what it was after the moment ``at``, an index into the clock."""

    __slots__ = ("after", "at")

    def __init__(self) -> None:
        self.at = array("q")
        self.after = array("d")

    def add(self, at: int, after: float) -> None:
        """Note a value."""
        self.at.append(at)
        self.after.append(after)


class Holding:
    """One strategy's position in one symbol, and what its signals are judged by; see ``signal_rules.Facts``."""

    __slots__ = (
        "basis", "book", "currency", "exits", "fee_of_nothing", "fee_share", "fees", "held", "held_f", "is_single",
        "lane", "lot", "multiplier", "multiplier_f", "note_at", "note_held", "orders", "realized", "steps", "tick",
    )  # fmt: skip

    def __init__(self, book: Book, lane: Lane) -> None:
        self.book, self.lane = book, lane
        terms = lane.terms
        self.multiplier, self.lot, self.tick, self.currency = terms.multiplier, terms.lot, terms.tick, terms.currency
        self.multiplier_f = float(terms.multiplier)
        self.is_single = terms.multiplier == 1
        schedule = terms.fees if terms.fees is not None else lane.models.fees
        self.fees = None if type(schedule) is NoFees else schedule
        self.fee_share = _fee_share(schedule)
        # By «is it a purchase»: what a schedule asks for an order that traded nothing, which should be nothing.
        self.fee_of_nothing = tuple(schedule.total(Traded(is_sell=not is_buy)) for is_buy in (False, True))
        self.held = self.basis = self.realized = ZERO
        self.held_f = 0.0
        self.orders: list[WorkingOrder] = []  # that work, protective exits left out
        self.exits: list[WorkingOrder] = []  # that protect the position
        self.steps = Steps()
        self.note_at, self.note_held = self.steps.at.append, self.steps.after.append

    @property
    def buying(self) -> Decimal:
        """Return what working orders may still buy."""
        return sum((order.remaining for order in self.orders if order.is_buy), ZERO)

    @property
    def selling(self) -> Decimal:
        """Return what working orders may still sell."""
        return sum((order.remaining for order in self.orders if not order.is_buy), ZERO)

    @property
    def closing(self) -> Decimal:
        """Return what working market orders that close will still close."""
        closes_by_buying = self.held < 0
        return sum(
            (order.remaining for order in self.orders if order.kind == MARKET and order.is_buy is closes_by_buying),
            ZERO,
        )

    @property
    def price(self) -> Decimal | None:
        """Return the last close, None before the first bar."""
        return self.lane.last_close()

    @property
    def equity(self) -> Decimal | None:
        """Return the strategy's equity at the last closes."""
        return self.book.equity()

    @property
    def quality(self) -> float:
        """Return how complete the bars are, 0–100."""
        return self.lane.quality

    @property
    def other_value(self) -> Decimal:
        """Return the unsigned value of positions and working entries in the other symbols."""
        return sum((each.exposure() for each in self.book.holdings.values() if each is not self), ZERO)

    @property
    def other_positions(self) -> int:
        """Return how many other symbols are held or being entered."""
        return sum(bool(each.held or each.orders) for each in self.book.holdings.values() if each is not self)

    @property
    def average(self) -> Decimal:
        """Return the average price of what is held, 0 while flat."""
        return average_cost(self.held, self.basis, self.multiplier)

    def value(self) -> Decimal:
        """Return what the position is worth at the last close, signed."""
        price = self.lane.last_close()
        return self.held * price * self.multiplier if price is not None and self.held else ZERO

    def exposure(self) -> Decimal:
        """Return the unsigned value of the position and of what working orders would add to it."""
        price = self.lane.last_close() or ZERO
        most = max(abs(self.held + self.buying), abs(self.held - self.selling), abs(self.held))
        return most * price * self.multiplier


class Book:
    """Cash and positions of one strategy."""

    __slots__ = (
        "_fee", "_fee_f", "_noted", "cash", "cash_f", "dividends", "fees", "holdings", "note_at", "note_cash", "shorts",
        "start_cash", "steps", "working",
    )  # fmt: skip

    def __init__(self, cash: Decimal) -> None:
        self.start_cash = self.cash = cash
        self.cash_f = float(cash)
        self.fees = self.dividends = ZERO
        self.holdings: dict[str, Holding] = {}
        self.steps = Steps()
        self.note_at, self.note_cash = self.steps.at.append, self.steps.after.append  # bound once: they run per fill
        self._noted, self._fee, self._fee_f = 0, ZERO, 0.0
        self.shorts = 0  # how many positions are short
        self.working = 0  # how many orders work, exits left out

    @property
    def realized(self) -> Decimal:
        """Return what closed parts earned, before fees."""
        return sum((holding.realized for holding in self.holdings.values()), ZERO)

    def equity(self) -> Decimal:
        """Return cash and positions at the last closes."""
        value = self.cash
        for holding in self.holdings.values():
            if holding.held:
                value += holding.value()
        return value

    def available(self) -> Decimal:
        """Return what new positions may cost: no position is carried on credit, a short holds its value back twice.

        Twice, because its proceeds are in the cash and are owed, and as much again stands behind it.
        """
        free = self.cash
        if self.shorts:
            for holding in self.holdings.values():
                if holding.held < 0:
                    free += 2 * holding.value()
        return free

    def apply(self, holding: Holding, quantity: Decimal, price: Decimal, flow: Decimal, fee: Decimal) -> Decimal:
        """Book a signed fill; return what it realised on the closed part, before the fee.

        ``flow`` is the cash that it moves before the fee: paid for a purchase, received for a sale.
        """
        flow = flow.quantize(QUANTUM, None, CONTEXT)
        held, basis = holding.held, holding.basis
        after = held + quantity
        realized = ZERO
        if not held or (held > 0) is (quantity > 0):
            holding.basis = basis - flow
        else:
            if not after:
                left = ZERO
            elif (after > 0) is (held > 0):
                left = exact(basis * after / held)
            else:
                left = exact(after * price * holding.multiplier)
            realized = flow + left - basis
            holding.basis = left
            holding.realized += realized
        if (after < 0) is not (held < 0):
            self.shorts += 1 if after < 0 else -1
        holding.held = after
        self.cash += flow - fee if fee else flow
        self.fees += fee
        return realized

    def note(self, holding: Holding, at: int, quantity: float, flow: float, fee: Decimal) -> None:
        """Note for the curve what a fill left, in floats that go along with the decimals.

        A decimal becomes a float in a fifth of a microsecond, which is much at three a fill. So the floats are summed,
        and set right from the decimals every now and then: they stay within a billionth.
        """
        if fee != self._fee:
            self._fee, self._fee_f = fee, float(fee)
        self._noted += 1
        if self._noted & _SET_RIGHT:
            cash = self.cash_f + flow - self._fee_f
            held = holding.held_f + quantity if holding.held else 0.0
        else:
            cash, held = float(self.cash), float(holding.held)
        self.cash_f, holding.held_f = cash, held
        self.note_at(at)
        self.note_cash(cash)
        holding.note_at(at)
        holding.note_held(held)

    def pay_out(self, holding: Holding, quantity: Decimal, price: Decimal, at: int) -> None:
        """Book what a split did not leave whole: a signed part of the position that is paid out at a price."""
        flow = exact(quantity * price * holding.multiplier)
        after = holding.held - quantity
        left = exact(holding.basis * after / holding.held)
        holding.realized += flow + left - holding.basis
        if holding.held < 0 and not after:
            self.shorts -= 1
        holding.basis, holding.held = left, after
        self.cash += flow
        self._note_cash(at)

    def pay(self, amount: Decimal, at: int) -> None:
        """Book a dividend that is paid, or charged to a short."""
        self.cash += amount
        self.dividends += amount
        self._note_cash(at)

    def _note_cash(self, at: int) -> None:
        self.cash_f = float(self.cash)
        self.steps.add(at, self.cash_f)


def _fee_share(schedule: FeeSchedule) -> float | None:
    """The largest share of its value that a schedule can ask for a purchase or a sale; None when it is not known."""
    if type(schedule) is NoFees:
        return 0.0
    if type(schedule) is FixedStockFees and schedule.regulatory is NO_REGULATORY_FEES:
        return float(schedule.maximum_share)
    return None
