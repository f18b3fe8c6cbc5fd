"""Read what the Sessions and Scanners pages and the API show: configurations, runs, scans.

Leaves: writing (``session_services``, ``session_runs``). Shape: rows are JSON-ready dicts in the words of the API; what
is not known is None, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Q
from django.utils import timezone

from strategies.exceptions import LoadError, NotFoundError
from trading.engine.events import iso
from trading.market.scanners.base import BaseScanner
from trading.market.scanners.loader import list_scanners, load_scanner
from trading.market.session_status import OVER, Phase
from trading.queries import Row
from trading.session_models import ScannerConfig, ScanRun, SessionConfig, SessionRun
from trading.session_runs import SILENT_AFTER

RUNS_SHOWN = 30
SCANS_SHOWN = 50
_OVER = [str(phase) for phase in OVER]


# -- sessions


def session_rows() -> list[Row]:
    """Return the configurations with what they hold and the run under way, by name."""
    running = {run.name: run for run in under_way()}
    rows = []
    for row in SessionConfig.objects.all():
        run = running.get(row.name)
        rows.append({**_config_facts(row), "run": None if run is None else run_row(run)})
    return rows


def _config_facts(row: SessionConfig) -> Row:
    config = row.config if isinstance(row.config, Mapping) else {}
    data = _part(config, "session_data_config")
    backtest = _part(config, "backtest_config")
    return {
        "name": row.name,
        "mode": str(config.get("mode", "")),
        "active": row.active,
        "symbols": _texts(data.get("symbols")),
        "streams": _texts(data.get("streams")),
        "strategies": [_last(entry) for entry in _list(data.get("strategies"))],
        "scanners": [_last(entry) for entry in _list(data.get("scanners"))],
        "days": f"{backtest['start_date']} – {backtest['end_date']}"
        if {"start_date", "end_date"} <= set(backtest)
        else "",
        "updated_by": row.updated_by,
        "updated_at": iso(row.updated_at),
    }


# A row edited past every form must not take the page down.
def _part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = values.get(name)
    return part if isinstance(part, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(value: object) -> list[str]:
    return [str(item) for item in _list(value)]


def _last(entry: object) -> str:
    module = entry.get("module", "") if isinstance(entry, Mapping) else ""
    return str(module).rpartition(".")[2]


def under_way() -> list[SessionRun]:
    """Return the runs that are not over, the newest first; of one name the newest alone."""
    found: dict[str, SessionRun] = {}
    for run in SessionRun.objects.exclude(phase__in=_OVER):
        found.setdefault(run.name, run)
    return list(found.values())


def run_rows(limit: int = RUNS_SHOWN, before: int | None = None, name: str | None = None) -> list[Row]:
    """Return runs, the newest first, below a cursor."""
    runs = SessionRun.objects.all()
    if before is not None:
        runs = runs.filter(pk__lt=before)
    if name is not None:
        runs = runs.filter(name=name)
    return [run_row(run) for run in runs[:limit]]


def find_run(pk: int) -> SessionRun:
    """Return a run.

    Raises: NotFoundError (unknown_run).
    """
    run = SessionRun.objects.filter(pk=pk).first()
    if run is None:
        raise NotFoundError(f"There is no session run {pk}.", code="unknown_run")
    return run


def run_row(run: SessionRun) -> Row:
    """Describe a run with its figures."""
    metrics = run.metrics if isinstance(run.metrics, dict) else {}
    is_over = run.phase in _OVER
    return {
        "id": run.pk,
        "name": run.name,
        "mode": run.mode,
        "phase": str(run.phase),
        "is_over": is_over,
        "is_paused": run.phase == Phase.PAUSED,
        "is_silent": not is_over and run.beat_at < timezone.now() - SILENT_AFTER,
        "day": run.day.isoformat() if run.day else None,
        "clock_at": iso(run.clock_at),
        "message": run.message,
        "error": run.error,
        "process": run.process,
        "started_at": iso(run.started_at),
        "beat_at": iso(run.beat_at),
        "ended_at": iso(run.ended_at),
        "seconds": _seconds(run),
        "metrics": metrics,
    }


def _seconds(run: SessionRun) -> float:
    return round(((run.ended_at or run.beat_at) - run.started_at).total_seconds(), 1)


# -- scanners


def scanner_rows() -> list[Row]:
    """Return the scanners that are run by hand or by schedule, with their last scan."""
    last = dict(ScanRun.objects.filter(session=None).values_list("scanner").annotate(Max("id")))
    scans = ScanRun.objects.in_bulk(list(last.values()))
    return [
        {
            "name": row.name,
            "module": row.module,
            "config": row.config,
            "universe": len(_texts(_part({"c": row.config}, "c").get("universe"))),
            "schedule": row.schedule,
            "enabled": row.enabled,
            "problem": module_problem(row.module),
            "last": scan_row(scans[last[row.name]]) if row.name in last else None,
        }
        for row in ScannerConfig.objects.all()
    ]


def module_problem(module: str) -> str:
    """Return why a scanner's file cannot be used; empty when it can."""
    try:
        load_scanner(module)
    except LoadError as error:
        return error.message
    return ""


def scan_rows(
    limit: int = SCANS_SHOWN, before: int | None = None, scanner: str | None = None, session: int | None = None
) -> list[Row]:
    """Return scans, the newest first, below a cursor."""
    found = ScanRun.objects.select_related("session")
    if before is not None:
        found = found.filter(pk__lt=before)
    if scanner is not None:
        found = found.filter(scanner=scanner)
    if session is not None:
        found = found.filter(session_id=session)
    return [scan_row(scan) for scan in found[:limit]]


def scan_row(scan: ScanRun) -> Row:
    """Describe a scan."""
    details = scan.details if isinstance(scan.details, dict) else {}
    figures = details.get("figures", {})
    return {
        "id": scan.pk,
        "scanner": scan.scanner,
        "session": scan.session_id,
        "session_name": scan.session.name if scan.session is not None else "",
        "at": iso(scan.at),
        "symbols": [{"symbol": symbol, "figures": _figures(figures, symbol)} for symbol in _texts(scan.symbols)],
        "promoted": _texts(details.get("promoted")),
        "universe": scan.universe,
        "ms": round(scan.ms, 1),
        "skipped": scan.skipped,
        "error": scan.error,
    }


def _figures(figures: object, symbol: str) -> dict[str, Any]:
    found = figures.get(symbol) if isinstance(figures, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def scan_figures(since: datetime | None = None) -> Row:
    """Count scans, those left out and those that failed within a day."""
    begin = since or timezone.now() - timedelta(days=1)
    counts: Row = ScanRun.objects.filter(at__gte=begin).aggregate(
        scans=Count("id"), skipped=Count("id", filter=Q(skipped=True)), failed=Count("id", filter=~Q(error=""))
    )
    return counts


def scanner_options() -> list[Row]:
    """Return the scanner files with their parameters as JSON schema."""
    rows: list[Row] = []
    for module in list_scanners():
        try:
            cls: type[BaseScanner] = load_scanner(module).cls
        except LoadError as error:
            rows.append({"module": module, "needs_ib": None, "summary": "", "parameters": {}, "problem": error.message})
            continue
        summary = (cls.__doc__ or "").strip().partition("\n")[0]
        schema = cls.Params.model_json_schema()
        rows.append(
            {"module": module, "needs_ib": cls.needs_ib, "summary": summary, "parameters": schema, "problem": ""}
        )
    return rows
