"""Routes under /sessions and /scanner: configurations, runs, scans; starting and stopping through the engine.

Rule: reading needs a login; every change needs the right to run sessions beside that to operate; what the engine must
do is queued, and its outcome read at the command.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from ninja import Path, Router, Status

from strategies.api_rules import Caller, caller
from strategies.schemas import Limit, Page, RowId
from trading import session_queries, session_services
from trading import session_schemas as schemas
from trading.api_queries import page
from trading.api_queue import queue
from trading.schemas import QueuedOut

sessions_router = Router()
scanner_router = Router()
QUEUED = {202: QueuedOut}
Queued = Status[dict[str, Any]]


def _runner(request: HttpRequest) -> Caller:
    """Return who asks, after asking for the right.

    Raises: PermissionDenied.
    """
    asked = caller(request)
    if not asked.user.has_perm(session_services.RUN_SESSION):
        raise PermissionDenied("This needs the right to run sessions.")
    return asked


def _who(asked: Caller) -> dict[str, Any]:
    return {"actor": asked.user.get_username(), "source": asked.source}


# -- sessions


@sessions_router.get("", response=list[schemas.SessionOut])
def list_sessions(request: HttpRequest) -> list[dict[str, Any]]:
    """List the configurations, each with its run under way."""
    return session_queries.session_rows()


@sessions_router.post("/save", response=schemas.SavedOut)
def save_session(request: HttpRequest, payload: schemas.SessionIn) -> dict[str, Any]:
    """Create or change a configuration; every mistake is told with its place."""
    who = _who(_runner(request))
    row = session_services.save_session(payload.name, payload.config, active=payload.active, **who)
    return {"name": row.name}


@sessions_router.get("/runs", response=Page[schemas.RunOut])
def list_runs(
    request: HttpRequest, limit: Limit = 30, cursor: RowId | None = None, name: schemas.Name | None = None
) -> dict[str, Any]:
    """List runs under way and past, newest first."""
    return page(session_queries.run_rows(limit + 1, cursor, name), limit, "id")


@sessions_router.get("/runs/{run_id}", response=schemas.RunOut)
def get_run(request: HttpRequest, run_id: Path[RowId]) -> dict[str, Any]:
    """Read one run with its figures."""
    return session_queries.run_row(session_queries.find_run(run_id))


@sessions_router.get("/scanners", response=schemas.ScannerStatesOut)
def scanner_states(request: HttpRequest) -> dict[str, Any]:
    """Tell the states of the scanners of the sessions under way."""
    return {
        "items": [
            {"session": run.name, **row}
            for run in session_queries.under_way()
            for row in session_queries.run_row(run)["metrics"].get("scanners", [])
        ]
    }


@sessions_router.get("/{name}", response=schemas.SessionConfigOut)
def get_session(request: HttpRequest, name: Path[schemas.Name]) -> Any:
    """Read a configuration as it was saved."""
    return session_services.find_session(name)


@sessions_router.post("/{name}/delete", response=schemas.SavedOut)
def delete_session(request: HttpRequest, name: Path[schemas.Name]) -> dict[str, Any]:
    """Delete a configuration that does not run; its past runs stay."""
    session_services.delete_session(name, **_who(_runner(request)))
    return {"name": name}


@sessions_router.post("/{name}/start", response=QUEUED)
def start_session(request: HttpRequest, response: HttpResponse, name: Path[schemas.Name]) -> Queued:
    """Have the engine start a live session."""
    return _queued(request, response, "start_session", name)


@sessions_router.post("/{name}/pause", response=QUEUED)
def pause_session(request: HttpRequest, response: HttpResponse, name: Path[schemas.Name]) -> Queued:
    """Have the session's strategies hear nothing; bars are still taken in."""
    return _queued(request, response, "pause_session", name)


@sessions_router.post("/{name}/resume", response=QUEUED)
def resume_session(request: HttpRequest, response: HttpResponse, name: Path[schemas.Name]) -> Queued:
    """Have the session's strategies hear of bars again."""
    return _queued(request, response, "resume_session", name)


@sessions_router.post("/{name}/stop", response=QUEUED)
def stop_session(request: HttpRequest, response: HttpResponse, name: Path[schemas.Name]) -> Queued:
    """Have the engine end a live session; positions stay."""
    return _queued(request, response, "stop_session", name)


@sessions_router.post("/{name}/promote", response=QUEUED)
def promote_symbol(
    request: HttpRequest, response: HttpResponse, name: Path[schemas.Name], payload: schemas.PromoteIn
) -> Queued:
    """Have a symbol added to a running session."""
    return _queued(request, response, "promote_symbol", name, ticker=payload.symbol)


def _queued(request: HttpRequest, response: HttpResponse, kind: str, name: str, **args: Any) -> Queued:
    _runner(request)
    session_services.find_session(name)
    return Status(202, queue(request, response, kind, session=name, **args))


# -- scanners


@scanner_router.get("/options", response=schemas.OptionsOut)
def scanner_options(request: HttpRequest) -> dict[str, Any]:
    """List the scanners, and the files with their parameters."""
    return {"scanners": session_queries.scanner_rows(), "files": session_queries.scanner_options()}


@scanner_router.get("/history", response=Page[schemas.ScanOut])
def scan_history(
    request: HttpRequest,
    limit: Limit = 50,
    cursor: RowId | None = None,
    scanner: schemas.Name | None = None,
    session: RowId | None = None,
) -> dict[str, Any]:
    """List scans, newest first."""
    return page(session_queries.scan_rows(limit + 1, cursor, scanner, session), limit, "id")


@scanner_router.post("/scan", response=QUEUED)
def scan_now(request: HttpRequest, response: HttpResponse, payload: schemas.ScanIn) -> Queued:
    """Have the engine scan once, now; what it found stands in the history and in the command's result."""
    _runner(request)
    session_services.find_scanner(payload.scanner)
    return Status(202, queue(request, response, "run_scanner", scanner=payload.scanner))


@scanner_router.post("/save", response=schemas.SavedOut)
def save_scanner(request: HttpRequest, payload: schemas.ScannerIn) -> dict[str, Any]:
    """Create or change a scanner."""
    row = session_services.save_scanner(**payload.dict(), **_who(_runner(request)))
    return {"name": row.name}


@scanner_router.post("/{name}/delete", response=schemas.SavedOut)
def delete_scanner(request: HttpRequest, name: Path[schemas.Name]) -> dict[str, Any]:
    """Delete a scanner; its past scans stay."""
    session_services.delete_scanner(name, **_who(_runner(request)))
    return {"name": name}
