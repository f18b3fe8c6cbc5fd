"""Units that come into the account, or leave it, without a trade: moved from another broker, spun off, given, lost.

Owns: what these do to the books. Rule: nothing was paid and nothing is realised. What came is a deposit of its worth
that was spent on it at once, what left was sold at its cost and that was withdrawn: so cash stays, the position has
its cost, and returns see a flow of that amount at that moment. A future has no worth of its own: it comes at notional,
as it is traded (decision 6), and is no flow.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from portfolio.effects import Act
from portfolio.late import last_events
from portfolio.ledger.cash import fill_cash
from portfolio.ledger.events import Delivery, Receipt, refused
from portfolio.ledger.journal import cost_of_part, unit_price
from portfolio.ledger.money import plain
from portfolio.ledger.validity import UNSUPPORTED, price_fault
from portfolio.models import AdjustmentKind, Instrument, MovementKind
from portfolio.refolding import NOW
from strategies.exceptions import ConflictError


def receive(act: Act, event: Receipt) -> None:
    """Units that came; a price of zero is what was given for nothing.

    Raises: ConflictError when the owner holds the other side: that would close it, and only a trade does.
    """
    instrument = _bookable(act, event.con_id)
    fault = price_fault(instrument.sec_type, event.price) if event.price else ""
    if fault:
        raise refused({"price": fault})
    held = act.books.position(event.owner, event.con_id).quantity
    if held * event.quantity < 0:
        raise ConflictError(
            f"{event.owner} holds {plain(held)} {instrument}: {plain(event.quantity)} would close that without a "
            "trade. Receive it for another owner.",
            code="other_side",
        )
    cash = fill_cash(event.quantity, event.price, instrument.multiplier)
    _move(act, instrument, event.owner, event.quantity, event.price, cash)


def deliver(act: Act, event: Delivery) -> None:
    """Units that left, at their part of what the owner's position cost.

    Raises: ConflictError when the owner holds less.
    """
    instrument = _bookable(act, event.con_id)
    if instrument.sec_type == "FUT":  # what it gained since it was bought is in the broker's cash already
        raise refused({"con_id": f"{instrument} is a future: book an expiry at the price at which it left"})
    held = act.books.position(event.owner, event.con_id)
    if abs(held.quantity) < event.quantity:
        raise ConflictError(
            f"{event.owner} holds {plain(held.quantity)} {instrument}, not {plain(event.quantity)}.", code="not_held"
        )
    moved = -event.quantity if held.quantity > 0 else event.quantity
    cost = cost_of_part(held, moved)
    _move(act, instrument, event.owner, moved, unit_price(moved, cost, instrument.multiplier), cost)


def _bookable(act: Act, con_id: int) -> Instrument:
    instrument = act.instrument(con_id)
    if instrument.sec_type == "CASH":
        raise refused({"con_id": f"{instrument} is a pair of currencies: book a deposit or withdrawal of them"})
    if instrument.sec_type in UNSUPPORTED:
        raise refused({"con_id": f"{instrument} is a {instrument.sec_type}, which these books do not keep"})
    since = last_events(act.row.account_id, [con_id]).get(con_id)
    if since is not None and since > act.row.effective_at:  # its place is that of its booking: old units would be new
        raise ConflictError(
            f"{instrument} was split, changed or ended on {since:%Y-%m-%d}, after that moment: book it as of now, in "
            "units of now.",
            code="event_since",
            con_id=con_id,
        )
    return instrument


def _move(act: Act, instrument: Instrument, owner: str, quantity: Decimal, price: Decimal, cash: Decimal) -> None:
    """Move units against cash, and that cash over the account's border."""
    line = act.line(
        owner,
        MovementKind.TRANSFER,
        instrument.currency,
        con_id=instrument.con_id,
        quantity=quantity,
        price=price,
        cash=cash,
    )
    act.refolder.journal(owner, instrument.con_id).add(act.ref, line, NOW)
    act.refolder.settle(owner, instrument.con_id, [line])
    if cash and instrument.sec_type != "FUT":
        kind = MovementKind.DEPOSIT if cash < 0 else MovementKind.WITHDRAWAL
        act.refolder.book_cash(act.line(owner, kind, instrument.currency, cash=-cash))


IN_KIND_EFFECTS: dict[AdjustmentKind, Callable[[Act, Any], None]] = {
    AdjustmentKind.RECEIPT: receive,
    AdjustmentKind.DELIVERY: deliver,
}
