"""Commands that read Flex statements into the books.

Leaves: reading, comparing and booking to ``portfolio.flex``. Rule: downloading, reading and comparing, which may take
minutes, happen on the command's own thread. The executions of a statement are jobs of the message thread, a slice each,
so that live fills are booked between them; the rest is one more job. Each step is told where pages and tools see it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from portfolio import parking
from portfolio.facts import FoldResult
from portfolio.flex import closing
from portfolio.flex.access import fetch_statement
from portfolio.flex.findings import Finding
from portfolio.flex.importer import Prepared, fold_slice, import_statement, prepare
from portfolio.flex.settle import Outcome
from strategies import audit
from trading.engine import check_alerts, events
from trading.engine.books_commands import Handler, account_of, refresh
from trading.engine.events import Event, EventKind
from trading.engine.reconciler import write_result
from trading.engine.requests import Request, Result, in_books, note_progress, slice_in_books
from trading.orders import services as orders

if TYPE_CHECKING:
    from trading.engine.manager import StrategyManager


SLICE = 500  # some tenths of a second of the message thread


def import_flex(engine: StrategyManager, request: Request) -> Result:
    """Read an uploaded statement into the books."""
    return _import(engine, request, request.args["sha256"])


def fetch_flex(engine: StrategyManager, request: Request) -> Result:
    """Download the statement from IB and read it into the books."""
    account_of(engine)
    note_progress(engine, request, {"text": "Waiting for IB to make the statement, up to five minutes."})
    return _import(engine, request, fetch_statement(engine.stop_event))


def _import(engine: StrategyManager, request: Request, sha256: str) -> Result:
    account = account_of(engine)
    note_progress(engine, request, {"text": "Reading the statement and comparing its executions with the books."})
    prepared = prepare(sha256, account_id=account)
    done = _fold_in_slices(engine, request, prepared)

    def _work(now: datetime) -> Result:
        report = import_statement(prepared, account_id=account, actor=request.actor, now=now, owner_of=orders.owner_of)
        write_result(report.changes, now)
        events.write([Event(EventKind.ADJUSTMENT, events.adjustment_payload(one), at=now) for one in report.bookings])
        _settle_parked(report.changes, request, now)
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

    rest = {"text": "Booking what is no execution, and comparing the end of the statement with the books."}
    note_progress(engine, request, {**done, **rest})
    result = in_books(engine, request, _work)
    refresh(engine)
    return result


def _fold_in_slices(engine: StrategyManager, request: Request, prepared: Prepared) -> Result:
    """Book the executions of a large statement slice by slice, telling how far it is; return what was told last."""
    told: Result = {}
    done, of = 0, len(prepared.foldable)
    parts = list(prepared.slices(SLICE))
    for number, part in enumerate(parts, start=1):
        outcomes: list[tuple[Finding, Outcome]] = []

        def _work(now: datetime) -> Result:
            changes, outcomes[:] = fold_slice(  # noqa: B023 - done before the next turn
                prepared,
                part,  # noqa: B023
                actor=request.actor,
                now=now,
                owner_of=orders.owner_of,
            )
            write_result(changes, now)
            _settle_parked(changes, request, now)
            last = done + len(part)  # noqa: B023
            text = f"Flex statement: slice {number} of {len(parts)}, {last:,} of {of:,} executions and fees booked."  # noqa: B023
            events.write([Event(EventKind.LOG, events.log_payload("info", "", text, __name__), at=now)])
            audit.record(
                "flex.slice",
                f"flex:{prepared.digest}",
                actor=request.actor,
                source=request.source,
                after={"done": last, "of": of, "booked": len(changes.new_executions)},
                now=now,
            )
            return {"slice": number, "slices": len(parts), "done": last, "of": of, "text": text}  # noqa: B023

        told = slice_in_books(engine, request, _work)
        prepared.folded += outcomes
        done += len(part)
    return told


def _settle_parked(changes: FoldResult, request: Request, now: datetime) -> None:
    known = [fact.exec_id for fact in changes.new_executions]
    parking.settle_known(known, actor=f"Flex statement, {request.actor}", now=now)
    check_alerts.clear_settled(now)


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
