"""How far an order has come, folded from evidence. Pure; rows of the ledger and tickets of strategies both use it.

Rule: executions decide what is filled; IB's Cancelled ends an order only when the executions it counts have arrived;
an error text ends it only when IB never accepted it. Repeating evidence changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from trading.ib.codes import OrderVerdict
from trading.orders.state import FINAL, OrderState, can_move

SENT_WORDS = frozenset({"PendingSubmit", "ApiPending"})
WORKING_WORDS = frozenset({"PreSubmitted", "Submitted"})
CANCEL_WORDS = frozenset({"Cancelled", "ApiCancelled"})
INACTIVE_WORD = "Inactive"
FILLED_WORD = "Filled"
UNACKNOWLEDGED = "IB has not acknowledged it; asked about, and never sent again."
REJECTION = "201 "  # how a reason begins that IB gave for rejecting an order it had accepted before

_UNANSWERED = frozenset({OrderState.INTENT, OrderState.SENT, OrderState.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an order stands and what is known for it. Units: unsigned quantities.

    ``cancelled_at`` is how much IB says was filled when it cancelled, None while it has not.
    """

    state: OrderState
    quantity: Decimal
    filled: Decimal = Decimal(0)
    average_price: Decimal | None = None
    cancelled_at: Decimal | None = None
    reason: str = ""

    @property
    def is_done(self) -> bool:
        """Tell whether nothing more is expected."""
        return self.state in FINAL

    def ended(self, state: OrderState, reason: str) -> Progress:
        """Return the progress in a state concluded from the broker's complete answers."""
        return replace(self, state=state, reason=reason)

    @property
    def is_overfilled(self) -> bool:
        """Tell whether more was executed than ordered."""
        return self.filled > self.quantity > 0


def _move(progress: Progress, target: OrderState, reason: str | None = None) -> Progress:
    if not can_move(progress.state, target):
        return progress
    return replace(progress, state=target, reason=progress.reason if reason is None else reason)


def _settle(progress: Progress) -> Progress:
    """Let the executions speak."""
    if progress.filled >= progress.quantity > 0:
        return _move(progress, OrderState.FILLED)
    if progress.cancelled_at is not None:
        if progress.state is OrderState.REJECTED and not progress.filled and not progress.cancelled_at:
            return progress  # IB's own word for the end of what it refused
        if progress.filled < progress.cancelled_at:
            missing = (progress.cancelled_at - progress.filled).normalize()
            return _move(progress, OrderState.UNKNOWN, f"Cancelled at the broker; executions of {missing:f} awaited.")
        if progress.filled == 0 and progress.reason.startswith(REJECTION):
            return _move(progress, OrderState.REJECTED)
        return _move(progress, OrderState.CANCELLED)
    if progress.filled > 0 and progress.state is not OrderState.PARTIAL:
        return _move(progress, OrderState.PARTIAL)
    return progress


def with_fills(progress: Progress, filled: Decimal, average_price: Decimal | None) -> Progress:
    """Return the progress with these totals of its executions."""
    return _settle(replace(progress, filled=filled, average_price=average_price))


def add_fill(progress: Progress, quantity: Decimal, price: Decimal) -> Progress:
    """Return the progress after one more execution, which must be new."""
    filled = progress.filled + quantity
    before = (progress.average_price or Decimal(0)) * progress.filled
    return with_fills(progress, filled, (before + price * quantity) / filled if filled else None)


def with_quantity(progress: Progress, quantity: Decimal) -> Progress:
    """Return the progress of an order whose size was changed."""
    return _settle(replace(progress, quantity=quantity))


def on_status(progress: Progress, word: str, filled: Decimal) -> Progress:
    """Return the progress after one of IB's own statuses; words that ib_async invents are no evidence."""
    if word in CANCEL_WORDS:
        reported = max(filled, progress.cancelled_at or Decimal(0))
        return _settle(replace(progress, cancelled_at=reported))
    if progress.cancelled_at is not None:
        return progress  # a status from before the cancel
    if word in SENT_WORDS:
        return _move(progress, OrderState.SENT) if progress.state is OrderState.INTENT else progress
    if word in WORKING_WORDS:
        return _move(progress, OrderState.PARTIAL if progress.filled else OrderState.ACCEPTED)
    if word == FILLED_WORD and progress.filled >= filled > 0:
        return _move(progress, OrderState.FILLED)  # its size may be unknown: an order seen only by its executions
    if word == FILLED_WORD and progress.state in _UNANSWERED | {OrderState.REJECTED}:
        return _move(progress, OrderState.PARTIAL if progress.filled else OrderState.ACCEPTED)
    if word == INACTIVE_WORD:
        rejected = progress.filled == 0 and progress.reason.startswith(REJECTION)
        return _move(progress, OrderState.REJECTED if rejected else OrderState.INACTIVE)
    return progress


def on_error(progress: Progress, code: int, text: str, verdict: OrderVerdict) -> Progress:
    """Return the progress after an error text that names the order."""
    if verdict is OrderVerdict.NOTICE or progress.is_done:
        return progress
    reason = f"{code} {text}"[:400]
    is_new = progress.state in _UNANSWERED and not progress.filled and progress.cancelled_at is None
    if verdict is OrderVerdict.REJECTED and is_new:
        return _move(progress, OrderState.REJECTED, reason)
    return replace(progress, reason=reason)
