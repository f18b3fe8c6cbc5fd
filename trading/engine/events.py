"""What the engine tells the pages: kinds of events, their payloads, and how they are written.

Owns: ``EventKind`` and one builder per payload. Leaves: who is woken (``doorbell``), who reads (``trading.live``).
Rule: an event is written in the transaction of the fact that it reports; JSON holds decimals as plain text without
exponent and times as ISO 8601 UTC with Z; unknown is null.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from portfolio.bulk import insert_rows
from portfolio.facts import Booking, BreakFact, CashFact, CommissionFact, EquityFact, ExecutionFact, PositionFact
from strategies.crashpoints import reach
from strategies.ordering import take_turn
from trading.models import Alert, CommandState, EngineCommand, EngineEvent, Order, StrategyRun

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class EventKind(StrEnum):
    """What happened."""

    FILL = "fill"
    COMMISSION = "commission"
    ORDER = "order"
    POSITION = "position"
    CASH = "cash"
    MARKS = "marks"
    ACCOUNT = "account"
    EQUITY = "equity"
    BAR = "bar"
    STRATEGY = "strategy"
    CONNECTION = "connection"
    LOG = "log"
    COMMAND = "command"
    BREAK = "break"
    ENGINE = "engine"
    ALERT = "alert"
    ADJUSTMENT = "adjustment"
    RISK = "risk"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Event:
    """An event not yet written."""

    kind: EventKind
    payload: dict[str, Any]
    strategy: str = ""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


def plain(value: Decimal | None) -> str | None:
    """Return a decimal as text without exponent or trailing zeros; None stays None."""
    if value is None:
        return None
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def iso(moment: datetime | None) -> str | None:
    """Return an aware time as ISO 8601 UTC with Z; None stays None."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def write(events: Iterable[Event]) -> int:
    """Insert events in order inside the caller's transaction; return how many.

    Writers take turns: a tail by id must not step over one that commits later.
    """
    rows = [(event.at, event.kind.value, event.strategy, _encode(event.payload)) for event in events]
    if not rows:
        return 0
    take_turn()
    reach("event")
    insert_rows(EngineEvent, ("at", "kind", "strategy", "payload"), rows)
    return len(rows)


def emit(kind: EventKind, payload: Mapping[str, Any], strategy: str = "") -> None:
    """Write one event inside the caller's transaction; ring the doorbell after the commit."""
    write([Event(kind, dict(payload), strategy)])


def order_payload(order: Order) -> dict[str, Any]:
    """Describe an order as it stands."""
    return {
        "order_ref": order.order_ref,
        "strategy": order.owner,
        "symbol": order.symbol,
        "con_id": order.con_id,
        "side": order.side,
        "quantity": plain(order.quantity),
        "order_type": order.order_type,
        "limit_price": plain(order.limit_price),
        "stop_price": plain(order.stop_price),
        "tif": order.tif,
        "trail_amount": plain(order.trail_amount),
        "trail_percent": plain(order.trail_percent),
        "good_till": iso(order.good_till) if order.good_till else None,
        "good_after": iso(order.good_after) if order.good_after else None,
        "outside_rth": order.outside_rth,
        "algo": order.algo,
        "oca_group": order.oca_group,
        "parent_ref": order.parent_ref,
        "state": str(order.state),
        "filled": plain(order.filled),
        "average_price": plain(order.average_price),
        "reason": order.reason,
        "updated_at": iso(order.updated_at),
    }


def strategy_payload(run: StrategyRun) -> dict[str, Any]:
    """Describe a strategy's runtime state."""
    return {
        "symbol": run.symbol,
        "state": str(run.state),
        "client_id": run.client_id,
        "connected": run.connected,
        "message": run.message,
        "restarts": run.restarts,
    }


def command_payload(command: EngineCommand) -> dict[str, Any]:
    """Describe a command and its outcome; the user by name, and of one that runs how far it said it is."""
    return {
        "id": str(command.id),
        "kind": command.kind,
        "args": command.args,
        "state": str(command.state),
        "error": command.error,
        "error_code": command.error_code,
        "user": command.user.get_username() if command.user else "",
        "progress": command.result if command.state == CommandState.ACCEPTED else None,
        "note": str(command.result.get("note", "")) if isinstance(command.result, dict) else "",
    }


def engine_payload(state: str, message: str, epoch: int) -> dict[str, Any]:
    """Describe the engine's own state."""
    return {"state": state, "message": message, "epoch": epoch}


def log_payload(level: str, strategy: str, text: str, logger: str) -> dict[str, Any]:
    """Describe one line of the log strip; long texts are cut, the log file has them whole."""
    return {"level": level, "strategy": strategy, "text": text[:2000], "logger": logger}


def connection_payload(client_id: int, role: str, name: str, connected: bool, message: str) -> dict[str, Any]:
    """Describe one IB connection; ``role`` is master, queue or strategy."""
    return {"client_id": client_id, "role": role, "name": name, "connected": connected, "message": message}


def marks_payload(at: datetime, marks: Mapping[int, Decimal]) -> dict[str, Any]:
    """Describe prices by contract id."""
    return {"at": iso(at), "marks": {str(con_id): plain(price) for con_id, price in marks.items()}}


def bar_payload(
    con_id: int, symbol: str, start: datetime, ohlc: tuple[Decimal, Decimal, Decimal, Decimal], volume: Decimal
) -> dict[str, Any]:
    """Describe a 5-second bar by the start of its interval."""
    names = ("open", "high", "low", "close")
    prices = {name: plain(price) for name, price in zip(names, ohlc, strict=True)}
    return {
        "con_id": con_id,
        "symbol": symbol,
        "start": iso(start),
        **prices,
        "volume": plain(volume),
        "seconds": 5,
    }


def fill_payload(fact: ExecutionFact) -> dict[str, Any]:
    """Describe an execution and its owner's position after it."""
    return {
        "exec_id": fact.exec_id,
        "strategy": fact.strategy,
        "order_ref": fact.order_ref,
        "con_id": fact.con_id,
        "symbol": fact.symbol,
        "side": fact.side,
        "quantity": plain(fact.quantity),
        "price": plain(fact.price),
        "currency": fact.currency,
        "executed_at": iso(fact.executed_at),
        "commission": plain(fact.commission),
        "position": plain(fact.position),
        "average_cost": plain(fact.average_cost),
        "realized_pnl": plain(fact.realized_pnl),
    }


def commission_payload(fact: CommissionFact) -> dict[str, Any]:
    """Describe a fee and the owner's profit after it."""
    return {
        "exec_id": fact.exec_id,
        "strategy": fact.strategy,
        "commission": plain(fact.commission),
        "currency": fact.currency,
        "realized_pnl": plain(fact.realized_pnl),
    }


def position_payload(fact: PositionFact) -> dict[str, Any]:
    """Describe an owner's position."""
    return {
        "strategy": fact.strategy,
        "con_id": fact.con_id,
        "symbol": fact.symbol,
        "currency": fact.currency,
        "quantity": plain(fact.quantity),
        "average_cost": plain(fact.average_cost),
        "realized_pnl": plain(fact.realized_pnl),
    }


def cash_payload(fact: CashFact) -> dict[str, Any]:
    """Describe an owner's cash in one currency."""
    return {"strategy": fact.strategy, "currency": fact.currency, "amount": plain(fact.amount)}


def break_payload(fact: BreakFact) -> dict[str, Any]:
    """Describe a difference between the broker's position or cash and the ledger's, with what may explain it."""
    return {
        "id": fact.id,
        "kind": fact.kind,
        "currency": fact.currency,
        "cause": fact.cause,
        "con_id": fact.con_id,
        "symbol": fact.symbol,
        "ib_quantity": plain(fact.ib_quantity),
        "ledger_quantity": plain(fact.ledger_quantity),
        "state": fact.state,
    }


def equity_payload(at: datetime, facts: Iterable[EquityFact]) -> dict[str, Any]:
    """Describe the equity of all owners at one moment; owner empty is the account."""
    rows = [
        {
            "owner": fact.owner,
            "equity": plain(fact.equity),
            "cash": plain(fact.cash),
            "realized_pnl": plain(fact.realized_pnl),
            "unrealized_pnl": plain(fact.unrealized_pnl),
            "currency": fact.currency,
        }
        for fact in facts
    ]
    return {"at": iso(at), "rows": rows}


def alert_payload(alert: Alert) -> dict[str, Any]:
    """Describe an alert as it stands; ``cleared_at`` says that it is over."""
    return {
        "id": alert.pk,
        "key": alert.key,
        "severity": str(alert.severity),
        "title": alert.title,
        "text": alert.text,
        "strategy": alert.strategy,
        "times": alert.times,
        "opened_at": iso(alert.opened_at),
        "last_at": iso(alert.last_at),
        "acknowledged_at": iso(alert.acknowledged_at),
        "acknowledged_by": alert.acknowledged_by,
        "cleared_at": iso(alert.cleared_at),
    }


def adjustment_payload(booking: Booking) -> dict[str, Any]:
    """Describe what became of an adjustment: proposed, booked, rejected or undone."""
    return {"id": booking.adjustment_id, "kind": booking.kind, "state": booking.state, "text": booking.text}
