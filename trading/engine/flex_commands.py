"""Commands that read Flex statements into the books.

Leaves: reading, comparing and booking to ``portfolio.flex``. Rule: downloading, which may take minutes, happens on the
command's own thread; only the import is a job of the message thread.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from portfolio import parking
from portfolio.flex import closing
from portfolio.flex.access import fetch_statement
from portfolio.flex.importer import import_statement
from strategies import audit
from trading.engine import check_alerts, events
from trading.engine.books_commands import Handler, account_of, refresh
from trading.engine.events import Event, EventKind
from trading.engine.reconciler import write_result
from trading.engine.requests import Request, Result, in_books
from trading.orders import services as orders

if TYPE_CHECKING:
    from trading.engine.manager import StrategyManager


def import_flex(engine: StrategyManager, request: Request) -> Result:
    """Read an uploaded statement into the books."""
    return _import(engine, request, request.args["sha256"])


def fetch_flex(engine: StrategyManager, request: Request) -> Result:
    """Download the statement from IB and read it into the books."""
    account_of(engine)
    return _import(engine, request, fetch_statement(engine.stop_event))


def _import(engine: StrategyManager, request: Request, sha256: str) -> Result:
    account = account_of(engine)

    def _work(now: datetime) -> Result:
        report = import_statement(sha256, account_id=account, actor=request.actor, now=now, owner_of=orders.owner_of)
        write_result(report.changes, now)
        events.write([Event(EventKind.ADJUSTMENT, events.adjustment_payload(one), at=now) for one in report.bookings])
        known = [fact.exec_id for fact in report.changes.new_executions]
        parking.settle_known(known, actor=f"Flex statement, {request.actor}", now=now)
        check_alerts.clear_settled(now)
        result: Result = audit.storable(report.as_json())
        audit.record(
            "flex.imported",
            f"flex:{sha256}",
            actor=request.actor,
            source=request.source,
            after=result,
            now=now,
        )
        return {**result, "text": report.summary}

    result = in_books(engine, request, _work)
    refresh(engine)
    return result


def resolve_finding(engine: StrategyManager, request: Request) -> Result:
    """Close a finding that a person has settled."""

    def _work(now: datetime) -> Result:
        row = closing.resolve_finding(
            request.args["finding"], actor=request.actor, source=request.source, reason=request.reason, now=now
        )
        return {"finding": row.pk, "state": str(row.state), "text": f"Finding {row.pk} is closed."}

    return in_books(engine, request, _work)


FLEX_HANDLERS: dict[str, Handler] = {
    "import_flex": import_flex,
    "fetch_flex": fetch_flex,
    "resolve_finding": resolve_finding,
}
