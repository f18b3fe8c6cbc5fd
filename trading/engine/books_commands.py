"""Commands that move the books by hand: adjustments, assignments, rebalancing, parked reports, snapshots.

Owns: one function per kind. Leaves: what is booked and whether it may be (``portfolio``), statements
(``flex_commands``). Rule: each runs as one job of the message thread, which alone writes the ledger; its events are
written with it, so that every page shows the books after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from portfolio import adjustments, assignments, hourly, parking
from portfolio import rebalance as rebalancing
from portfolio.breaks import acknowledge_break as note_break
from portfolio.facts import Booking
from portfolio.models import BreakKind, ParkedReport
from strategies import audit
from strategies.exceptions import ConflictError, TransientError
from trading import alerts
from trading.engine import events
from trading.engine.events import Event, EventKind
from trading.engine.reconciler import write_result
from trading.engine.requests import Request, Result, in_books
from trading.orders import services as orders

if TYPE_CHECKING:
    from trading.engine.manager import StrategyManager

Handler = Callable[["StrategyManager", Request], Result]


def account_of(engine: StrategyManager) -> str:
    """Return the account whose books are kept.

    Raises: TransientError (account_unknown) before the first connection.
    """
    if not engine.account_id:
        raise TransientError("No account is known yet; the engine has not connected to one.", code="account_unknown")
    return engine.account_id


def _when(request: Request) -> datetime | None:
    text = request.args.get("effective_at")
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)


def refresh(engine: StrategyManager) -> None:
    """Have strategies and the gate see the books as they are now."""
    engine.portfolio_manager.clear_cache()
    engine.session.request_check()


def write_bookings(bookings: Iterable[Booking], now: datetime) -> None:
    """Report bookings and what they touched, inside the job that made them."""
    found: list[Event] = []
    for booking in bookings:
        for position in booking.touched_positions:
            found.append(Event(EventKind.POSITION, events.position_payload(position), position.strategy, now))
        for cash in booking.touched_cash:
            found.append(Event(EventKind.CASH, events.cash_payload(cash), cash.strategy, now))
        found.append(Event(EventKind.ADJUSTMENT, events.adjustment_payload(booking), "", now))
    events.write(found)


def told(booking: Booking) -> Result:
    """Return a booking as a command's result."""
    return {
        "adjustment": booking.adjustment_id,
        "kind": booking.kind,
        "state": booking.state,
        "text": booking.text,
        "positions": [events.position_payload(fact) for fact in booking.touched_positions],
        "cash": [events.cash_payload(fact) for fact in booking.touched_cash],
    }


def _book(engine: StrategyManager, request: Request, service: Callable[[datetime], Booking]) -> Result:
    return _book_all(engine, request, lambda now: [service(now)])


def _book_all(engine: StrategyManager, request: Request, service: Callable[[datetime], list[Booking]]) -> Result:
    def _work(now: datetime) -> Result:
        bookings = service(now)
        write_bookings(bookings, now)
        if len(bookings) == 1:
            return told(bookings[0])
        texts = " ".join(booking.text for booking in bookings)
        return {**told(bookings[-1]), "text": texts, "adjustments": [booking.adjustment_id for booking in bookings]}

    result = in_books(engine, request, _work)
    refresh(engine)
    return result


def book_adjustment(engine: StrategyManager, request: Request) -> Result:
    """Book an event that is no fill, or lay it before an operator with ``propose``."""
    args, account = request.args, account_of(engine)
    service = adjustments.propose_adjustment if args.get("propose") else adjustments.book_adjustment
    return _book(
        engine,
        request,
        lambda now: service(
            account,
            args["kind"],
            args["details"],
            actor=request.actor,
            source=request.source,
            reason=request.reason,
            key=request.key,
            effective_at=_when(request),
            now=now,
        ),
    )


def _decide(service: Callable[..., Booking]) -> Handler:
    def decide(engine: StrategyManager, request: Request) -> Result:
        return _book(
            engine,
            request,
            lambda now: service(
                request.args["adjustment"], actor=request.actor, source=request.source, reason=request.reason, now=now
            ),
        )

    return decide


def assign_execution(engine: StrategyManager, request: Request) -> Result:
    """Give an execution, or a part of it, to another owner."""
    args, account = request.args, account_of(engine)
    return _book(
        engine,
        request,
        lambda now: assignments.assign_execution(
            account,
            args["exec_id"],
            args["owner"],
            quantity=None if args.get("quantity") is None else Decimal(args["quantity"]),
            from_owner=args.get("from_owner"),
            actor=request.actor,
            source=request.source,
            reason=request.reason,
            key=request.key,
            now=now,
        ),
    )


def divide_execution(engine: StrategyManager, request: Request) -> Result:
    """Give parts of an execution to several owners, all or none."""
    args, account = request.args, account_of(engine)
    return _book_all(
        engine,
        request,
        lambda now: assignments.divide_execution(
            account,
            args["exec_id"],
            {owner: Decimal(part) for owner, part in args["owners"].items()},
            from_owner=args.get("from_owner"),
            actor=request.actor,
            source=request.source,
            reason=request.reason,
            key=request.key,
            now=now,
        ),
    )


def undo_adjustment(engine: StrategyManager, request: Request) -> Result:
    """Take an adjustment back, and with a part of a division all of it."""
    return _book_all(
        engine,
        request,
        lambda now: assignments.undo(
            request.args["adjustment"], actor=request.actor, source=request.source, reason=request.reason, now=now
        ),
    )


def rebalance(engine: StrategyManager, request: Request) -> Result:
    """Bring one strategy, or all, to their target weights; tell of each what moved and what kept it from more."""
    account, args = account_of(engine), request.args

    def _work(now: datetime) -> Result:
        lines, bookings = rebalancing.apply(
            account,
            args.get("symbol"),
            force=bool(args.get("force")),
            actor=request.actor,
            source=request.source,
            reason=request.reason,
            key=request.key,
            now=now,
        )
        write_bookings(bookings, now)
        return {
            "lines": [audit.storable(asdict(line)) for line in lines],
            "adjustments": [booking.adjustment_id for booking in bookings],
        }

    result = in_books(engine, request, _work)
    refresh(engine)
    return result


def take_snapshot(engine: StrategyManager, request: Request) -> Result:
    """Keep the books of the running hour, unless they are kept already."""
    account = account_of(engine)

    def _work(now: datetime) -> Result:
        hour = hourly.hour_of(now)
        rows = hourly.take_hourly_snapshot(account, hour, now)
        if rows:
            audit.record(
                "snapshot.taken",
                f"hour:{events.iso(hour)}",
                actor=request.actor,
                source=request.source,
                after={"owners": [row.owner for row in rows]},
                now=now,
            )
        return {"hour": events.iso(hour), "taken": len(rows)}

    return in_books(engine, request, _work)


def settle_parked(engine: StrategyManager, request: Request) -> Result:
    """Try again to book a report that was set aside, or give it up."""
    account, parked_id = account_of(engine), request.args["parked"]
    is_retry = request.args["action"] == "retry"

    def _work(now: datetime) -> Result:
        row = _retry(account, parked_id, request, now) if is_retry else _discard(parked_id, request, now)
        audit.record(
            "parked.booked" if is_retry else "parked.discarded",
            row.key,
            actor=request.actor,
            source=request.source,
            reason=request.reason,
            before={"state": "waiting", "code": row.code, "reason": row.reason},
            after={"state": row.state, "parked": row.pk, "report": row.payload},
            now=now,
        )
        return {"parked": row.pk, "key": row.key, "state": str(row.state)}

    result = in_books(engine, request, _work)
    refresh(engine)
    return result


def _retry(account: str, parked_id: int, request: Request, now: datetime) -> ParkedReport:
    outcome = parking.retry_parked(account, orders.owner_of, now, parked_id=parked_id, actor=request.actor)
    for row in outcome.waiting:
        raise ConflictError(f"It still cannot be booked: {row.reason}", code=row.code or "parked", parked=parked_id)
    for result in outcome.results:
        write_result(result, now)
    return outcome.booked[0]


def _discard(parked_id: int, request: Request, now: datetime) -> ParkedReport:
    return parking.discard_parked(parked_id, actor=request.actor, reason=request.reason, now=now)


def acknowledge_break(engine: StrategyManager, request: Request) -> Result:
    """Note that an operator saw a break; it stays open until the books agree."""

    def _work(now: datetime) -> Result:
        row = note_break(
            request.args["break_id"], actor=request.actor, source=request.source, reason=request.reason, now=now
        )
        alerts.acknowledge_key(
            f"break:cash:{row.currency}" if row.kind == BreakKind.CASH else f"break:{row.instrument_id}",
            request.actor,
            now,
        )
        return {"break_id": row.pk, "acknowledged_by": row.acknowledged_by}

    return in_books(engine, request, _work)


def acknowledge_alert(engine: StrategyManager, request: Request) -> Result:
    """Note that an operator saw an alert; it stays open until it is over."""

    def _work(now: datetime) -> Result:
        alert = alerts.acknowledge(request.args["alert"], request.actor, now)
        audit.record(
            "alert.acknowledged",
            alert.key,
            actor=request.actor,
            source=request.source,
            after={"alert": alert.pk, "title": alert.title, "severity": alert.severity},
            now=now,
        )
        return {"alert": alert.pk, "acknowledged_by": alert.acknowledged_by}

    return in_books(engine, request, _work)


BOOK_HANDLERS: dict[str, Handler] = {
    "book_adjustment": book_adjustment,
    "approve_adjustment": _decide(adjustments.approve_adjustment),
    "reject_adjustment": _decide(adjustments.reject_adjustment),
    "undo_adjustment": undo_adjustment,
    "assign_execution": assign_execution,
    "divide_execution": divide_execution,
    "rebalance": rebalance,
    "take_snapshot": take_snapshot,
    "settle_parked": settle_parked,
    "acknowledge_break": acknowledge_break,
    "acknowledge_alert": acknowledge_alert,
}
