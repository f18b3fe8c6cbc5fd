"""Pre-trade checks: each a small object that names itself, its limit and the value that broke it.

Owns: the checks and their order. Leaves: reading the facts (``RiskFacts`` is filled by the broker), the gate that
knows connection, reconciliation and locked instruments (``engine.gate``).
Rule: an order that only reduces the owner's position passes the daily limits: a loss limit must not keep anyone in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, Protocol

from strategies.exceptions import LedgerError, OrderDeniedError
from strategies.order_types import TYPES
from trading.orders.drafts import OrderDraft

ORDER_TYPES = frozenset(TYPES)
NEEDS_LIMIT = frozenset(name for name, row in TYPES.items() if row.limit)
NEEDS_STOP = frozenset(name for name, row in TYPES.items() if row.stop)
TAKES_ADAPTIVE = frozenset(name for name, row in TYPES.items() if row.adaptive)
MAX_ACTIVE_PER_SIDE = 18  # IB refuses the 21st of a contract, side and account; two are left for hands


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """A working order of the same owner."""

    con_id: int
    side: str
    quantity: Decimal
    order_type: str
    limit_price: Decimal | None
    stop_price: Decimal | None
    age_s: float


@dataclass
class RiskFacts:
    """What the checks may ask; each fact is read when it is first needed, since most orders need few."""

    read_orders_today: Callable[[], int]
    read_realized_today: Callable[[], Decimal]
    read_equity: Callable[[], Decimal]
    read_position: Callable[[], Decimal]
    read_open_orders: Callable[[], Sequence[OpenOrder]]
    limits: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def orders_today(self) -> int:
        """Return how many orders the owner sent today (UTC)."""
        return self.read_orders_today()

    @cached_property
    def realized_today(self) -> Decimal:
        """Return the owner's realised profit of today, net of fees."""
        return self.read_realized_today()

    @cached_property
    def equity(self) -> Decimal:
        """Return the owner's equity."""
        return self.read_equity()

    @cached_property
    def position(self) -> Decimal:
        """Return the owner's signed quantity of the draft's contract."""
        return self.read_position()

    @cached_property
    def open_orders(self) -> Sequence[OpenOrder]:
        """Return the owner's working orders in the draft's contract."""
        return self.read_open_orders()


class RiskCheck(Protocol):
    """One rule; ``name`` is the code of its refusal."""

    name: str

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Raise OrderDeniedError when the draft breaks the rule."""


def _deny(name: str, text: str, *, limit: Any = None, value: Any = None) -> OrderDeniedError:
    return OrderDeniedError(text, code=name, limit=_text(limit), value=_text(value))


def _text(value: Any) -> str | None:
    return None if value is None else format(value, "f") if isinstance(value, Decimal) else str(value)


def reduces(draft: OrderDraft, position: Decimal) -> bool:
    """Tell whether the order only brings the position nearer to flat."""
    change = draft.signed_quantity
    return position * change < 0 and abs(change) <= abs(position)


class SizeIsPositive:
    """Nothing is ordered with size zero."""

    name = "size_zero"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse a size that is not greater than zero."""
        if not draft.quantity > 0:
            raise _deny(self.name, f"The size is {draft.quantity:f}; an order needs more than 0.", value=draft.quantity)


class TypeIsKnown:
    """Only order types that MATS can account for."""

    name = "order_type"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse other types, and an algorithm on a type that does not take it."""
        if draft.order_type not in ORDER_TYPES:
            known = ", ".join(sorted(ORDER_TYPES))
            raise _deny(self.name, f"Order type {draft.order_type!r} is not one of {known}.", value=draft.order_type)
        if draft.algo_strategy and draft.order_type not in TAKES_ADAPTIVE:
            raise _deny(self.name, f"{draft.order_type} takes no algorithm; use MKT or LMT.", value=draft.order_type)


class PricesAreGiven:
    """A limit order has a limit, a stop order a trigger, and both are prices."""

    name = "price_missing"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse a type without its price."""
        is_combination = draft.contract.sec_type == "BAG"  # its price is a difference, and may be zero or less
        if is_combination and draft.order_type in NEEDS_LIMIT and draft.limit_price is not None:
            return
        if draft.order_type in NEEDS_LIMIT and not (draft.limit_price and draft.limit_price > 0):
            raise _deny(self.name, f"{draft.order_type} needs a limit price.", value=draft.limit_price)
        if draft.order_type in NEEDS_STOP and not (draft.stop_price and draft.stop_price > 0):
            raise _deny(self.name, f"{draft.order_type} needs a stop price.", value=draft.stop_price)


class NotADuplicate:
    """The same order is not sent again while its twin, seconds old, still works."""

    name = "duplicate_order"
    window_s = 2.0

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse a twin: same contract, side, size, type and prices."""
        for other in facts.open_orders:
            same = (other.side, other.quantity, other.order_type, other.limit_price, other.stop_price) == (
                draft.side,
                draft.quantity,
                draft.order_type,
                draft.limit_price,
                draft.stop_price,
            )
            if same and other.age_s < self.window_s:
                raise _deny(
                    self.name,
                    f"The same {draft.side} {draft.quantity:f} {draft.contract.symbol} was sent {other.age_s:.1f} s "
                    "ago and still works.",
                    limit=self.window_s,
                    value=round(other.age_s, 1),
                )


class ActiveOrders:
    """IB takes 20 working orders per contract and side."""

    name = "too_many_working_orders"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse one more than MATS leaves room for."""
        count = sum(1 for other in facts.open_orders if other.side == draft.side)
        if count >= MAX_ACTIVE_PER_SIDE:
            text = f"{count} {draft.side} orders in {draft.contract.symbol} work already."
            raise _deny(self.name, text, limit=MAX_ACTIVE_PER_SIDE, value=count)


class DailyTrades:
    """No more orders a day than the parameters allow."""

    name = "max_daily_trades"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse the order that would be one too many, unless it reduces."""
        limit = facts.limits.get(self.name)
        if limit is None or facts.orders_today < int(limit) or reduces(draft, facts.position):
            return
        text = f"{draft.owner} sent {facts.orders_today} orders today; its limit is {limit}."
        raise _deny(self.name, text, limit=limit, value=facts.orders_today)


class DailyLoss:
    """No new risk after losing the allowed fraction of equity."""

    name = "max_daily_loss"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse new risk past the limit, and while the loss cannot be known."""
        limit = facts.limits.get(self.name)
        if limit is None:
            return
        try:
            loss = -facts.realized_today
            if loss <= 0:
                return
            start = facts.equity + loss
        except LedgerError as error:
            if reduces(draft, facts.position):
                return
            raise _deny(self.name, f"Today's loss cannot be known: {error.message}", limit=limit) from error
        allowed = Decimal(str(limit)) * start
        if loss >= allowed and not reduces(draft, facts.position):
            text = f"{draft.owner} lost {loss:.2f} today; it may lose {allowed:.2f} ({limit} of {start:.2f})."
            raise _deny(self.name, text, limit=allowed, value=loss)


CHECKS: tuple[RiskCheck, ...] = (
    SizeIsPositive(),
    TypeIsKnown(),
    PricesAreGiven(),
    NotADuplicate(),
    ActiveOrders(),
    DailyTrades(),
    DailyLoss(),
)


def check_order(draft: OrderDraft, facts: RiskFacts, checks: Sequence[RiskCheck] = CHECKS) -> None:
    """Let the draft pass every check.

    Raises: OrderDeniedError of the first that refuses; code is its name, fields hold limit and value.
    """
    for rule in checks:
        rule.check(draft, facts)
