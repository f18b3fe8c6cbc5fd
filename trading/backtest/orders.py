"""A working order of a run, and the record that it leaves.

Owns: the fields that change while it works. Leaves: meeting the market (``lane``), placing (``executor``).
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from strategies.order_types import Terms
from trading.brokers.fills import FillOrder
from trading.market.signal_terms import MARKET as MARKET_OF_DAY

if TYPE_CHECKING:
    from trading.backtest.book import Holding

ZERO = Decimal(0)
NEVER = 1 << 62
"""A row or moment that no run reaches."""

MARKET, LIMIT, STOP, TOUCH, TRAIL, CLOSING = range(6)
_KINDS = {
    "MKT": MARKET,
    "LMT": LIMIT,
    "STP": STOP,
    "STP LMT": STOP,
    "MIT": TOUCH,
    "LIT": TOUCH,
    "TRAIL": TRAIL,
    "TRAIL LIMIT": TRAIL,
    "MOC": CLOSING,
    "LOC": CLOSING,
}
_NEVER_SLIP = frozenset({"LMT", "STP LMT", "LIT", "TRAIL LIMIT", "MOC", "LOC"})
_AT_ONCE = frozenset({"IOC", "FOK", "OPG"})


class Watcher(Protocol):
    """Who is told what becomes of an order, at the moment that it happens."""

    def began(self, order: WorkingOrder) -> None:
        """Take in that an exit works now."""

    def filled(self, quantity: Decimal, price: Decimal, fee: Decimal, time_ns: int) -> None:
        """Take an execution in; unsigned units."""

    def resized(self, quantity: Decimal) -> None:
        """Take in that the order is for less now."""

    def ended(self, state: str, why: str) -> None:
        """Take in that the order is over."""


class Exit(NamedTuple):
    """An order that comes to life when its entry is filled, and protects what that opened."""

    terms: Terms
    name: str
    watcher: Watcher | None = None


class WorkingOrder:
    """One order from its placing to its end. Rows are those of its symbol's base series.

    What most orders leave at its default is kept by the class: a market order of the day sets half of it.
    """

    closes = ZERO  # what it closes before it opens
    fee = filled = value = ZERO  # what it traded, and cost
    first_row = 0
    last_row = ends_ns = NEVER
    is_exit = triggered = False
    is_plain = slips = True
    kind = MARKET
    limit: Decimal | None = None
    limit_f = stop_f = 0.0
    looked_row = -1  # the last bar that it met
    placed_ns = 0
    sibling: WorkingOrder | None = None
    stop: Decimal | None = None
    exits: tuple[Exit, ...] = ()  # that it leaves when it filled
    watcher: Watcher | None = None

    def __init__(
        self,
        number: int,
        strategy: str,
        holding: Holding,
        is_buy: bool,
        quantity: Decimal,
        terms: Terms,
        reason: str,
        size: float,
    ) -> None:
        self.id = number
        self.size_f = size  # the quantity as a float
        self.strategy = strategy
        self.holding = holding
        self.is_buy = is_buy
        self.quantity = self.remaining = quantity
        self.terms = terms
        self.reason = reason
        if terms is not MARKET_OF_DAY:
            self._refine()

    def cut(self, quantity: Decimal) -> None:
        """Take units off what remains; an order that still works then is for that much less."""
        self.remaining -= quantity
        if self.remaining > 0:
            self.quantity -= quantity
            self.size_f = float(self.quantity)
            if self.watcher is not None:
                self.watcher.resized(self.quantity)

    def change(self, quantity: Decimal, terms: Terms) -> None:
        """Become an order for another quantity, more than is filled, or at other prices of the same type."""
        self.quantity, self.remaining = quantity, quantity - self.filled
        self.size_f = float(quantity)
        self.terms = terms
        self._refine()

    def reprice(self, *, limit: Decimal | None, stop: Decimal | None, ratio: Decimal) -> None:
        """Take new prices after a split; distances shrink by its ratio."""
        terms = self.terms
        if self.kind != MARKET:
            self.terms = replace(
                terms,
                limit=limit,
                stop=stop,
                trail=None if terms.trail is None else terms.trail / ratio,
                limit_offset=None if terms.limit_offset is None else terms.limit_offset / ratio,
            )
            self._refine()

    def _refine(self) -> None:
        """What differs from a market order of the day."""
        terms = self.terms
        self.kind = _KINDS[terms.order_type]
        self.is_plain = self.kind == MARKET and terms.tif not in _AT_ONCE
        self.slips = terms.order_type not in _NEVER_SLIP and terms.tif != "OPG"
        self.limit, self.stop = terms.limit, terms.stop
        if self.limit is not None:
            self.limit_f = float(self.limit)
        if self.stop is not None:
            self.stop_f = float(self.stop)

    @property
    def at_once(self) -> bool:
        """Tell whether it has one look at the market only."""
        return self.terms.tif in _AT_ONCE

    def for_model(self) -> FillOrder:
        """Return what the fill model needs of it."""
        terms = self.terms
        return FillOrder(
            is_buy=self.is_buy,
            order_type=terms.order_type,
            remaining=self.remaining,
            limit=self.limit,
            stop=self.stop,
            triggered=self.triggered,
            trail=terms.trail,
            trail_percent=terms.trail_percent,
            limit_offset=terms.limit_offset,
            at_open=terms.tif == "OPG",
            whole=terms.tif == "FOK",
        )

    def record(self, state: str, ended_ns: int | None, why: str = "") -> tuple[Any, ...]:
        """Return what remains of it, the values of a BacktestOrder."""
        return (
            self.id,
            self.strategy,
            self.holding.lane.symbol,
            self.placed_ns,
            ended_ns,
            "BUY" if self.is_buy else "SELL",
            self.quantity,
            self.filled,
            self.terms.order_type,
            self.limit,
            self.stop,
            state,
            why,
        )
