"""Bring bars, splits and dividends into ``market_data``: one job, whatever its source.

Owns: running one ingest, one at a time on a machine, its result. Leaves: arguments (``ingest_args``), IB
(``ingest_ib``), files (``importers``), storing (``ingest_store``).
Rule: what was stored before a stop, an error or a kill stays and is right; running the same ingest again goes on.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.conf import settings

from portfolio.arctic.client import get_ac
from strategies.bar_series import moment_of
from strategies.exceptions import ConfigError, MatsError, TransientError
from trading.market.adjustments import action_frame
from trading.market.holes import AskedBefore, find_lacking
from trading.market.importers import Imported, ImportWish, read_file
from trading.market.ingest_args import ACTIONS, FILE, IngestArgs, read_args
from trading.market.ingest_gaps import IbGaps, fill_from_file
from trading.market.ingest_ib import IbDone, IbWish, download_all, run_one
from trading.market.ingest_line import IngestLine
from trading.market.ingest_progress import Meter, Progress
from trading.market.ingest_store import Put, store_actions, store_bars
from trading.orders.db_threads import in_db_thread

logger = logging.getLogger(__name__)

ShouldStop = Callable[[], bool]
LOOK_S = 0.2


def run_ingest(args: Mapping[str, Any], progress: Progress, should_stop: ShouldStop) -> dict[str, Any]:
    """Do one ingest and return what came of it, JSON-able.

    ``progress`` hears the fraction done and a few words; ``should_stop`` is asked between requests. Of several symbols
    one that fails leaves the others alone and is named in ``failed``.
    Shape: ``{"series": [{"series", "timeframe", "new", "known", "replaced", "first", "last", "version", "requests",
    "notes"}], "failed": [{"symbol", "error"}], "bars", "seconds", "cancelled"}``.
    Raises: ConfigError for arguments that cannot be; MatsError when all failed for one reason.
    """
    asked = read_args(args, settings.MATS.mats_home)
    began = time.monotonic()
    with only_one(progress, should_stop) as is_ours:
        if not is_ours:
            return _result([], [], began, cancelled=True)
        if asked.source == ACTIONS:
            series, failed = _book_actions(asked)
        elif asked.source == FILE:
            series, failed = _import_file(asked, progress, should_stop)
        else:
            series, failed = asyncio.run(_download(asked, progress, should_stop))
    return _result(series, failed, began, cancelled=should_stop())


def _result(
    series: list[dict[str, Any]], failed: list[dict[str, str]], began: float, *, cancelled: bool
) -> dict[str, Any]:
    return {
        "series": series,
        "failed": failed,
        "bars": sum(int(one.get("new", 0)) + int(one.get("replaced", 0)) for one in series),
        "seconds": round(time.monotonic() - began, 3),
        "cancelled": cancelled,
    }


@contextmanager
def only_one(progress: Progress, should_stop: ShouldStop) -> Iterator[bool]:
    """Hold the machine's one place for an ingest; False when a stop was asked for while another had it.

    Why one: two would read the same series, and each take its own picture of it for the truth.
    """
    path = settings.MATS.mats_home / "run" / "ingest.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="ascii") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if should_stop():
                    yield False
                    return
                progress(0.0, "Another ingest runs; this one begins after it.")
                time.sleep(LOOK_S)
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield True


# -- IB


async def _download(
    asked: IngestArgs, progress: Progress, should_stop: ShouldStop
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    if asked.fill_gaps:
        return await _download_gaps(asked, progress, should_stop)
    frame = asked.timeframe
    assert frame is not None  # noqa: S101 - read_args made it
    meter = Meter(len(asked.symbols), progress)
    wishes = [
        IbWish(asked.contract(name), frame, asked.start, asked.end, asked.use_rth, asked.what, asked.calendar)
        for name in asked.symbols
    ]
    line = IngestLine(settings.MATS, meter, should_stop)
    try:
        await line.open()
        done, failed = await download_all(line, wishes, meter, should_stop)
    finally:
        line.close()
    if failed and not done:
        raise TransientError(failed[0]["error"], code="ingest_failed")
    return [_plain({**asdict(one), "replaced": 0}) for one in done], failed


async def _download_gaps(
    asked: IngestArgs, progress: Progress, should_stop: ShouldStop
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    progress(0.0, "Looking for gaps.")
    lacking = await in_db_thread(find_lacking, get_ac(), asked.symbols, asked.timeframe, asked.start, asked.end)
    if not lacking:
        return [], []
    meter = Meter(len(lacking), progress)
    line = IngestLine(settings.MATS, meter, should_stop)
    before = AskedBefore(settings.MATS.mats_home / "ingest" / "asked.jsonl")
    done: list[IbDone] = []
    failed: list[dict[str, str]] = []
    try:
        await line.open()
        for one in lacking:
            if should_stop():
                break
            series = IbGaps(line, one, meter, should_stop, before, get_ac(), asked.ask_again)
            await run_one(series, one.series, failed)
            done.append(series.done)
    finally:
        line.close()
    if failed and not any(one.new for one in done) and len(failed) == len(done):
        raise TransientError(failed[0]["error"], code="ingest_failed")
    return [_plain({**asdict(one), "replaced": 0}) for one in done], failed


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}


# -- files


def _import_file(
    asked: IngestArgs, progress: Progress, should_stop: ShouldStop
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    assert asked.path is not None  # noqa: S101 - read_args made it
    progress(0.0, f"Reading {asked.path.name}.")
    frame = "" if asked.timeframe is None else asked.timeframe.key
    found = read_file(asked.path, ImportWish(asked.symbol, frame, asked.zone, asked.prices, asked.calendar))
    meter = Meter(len(found), progress)
    series: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for one in found:
        if should_stop():
            break
        meter.begin(one.symbol, float(len(one.bars)))
        try:
            series += _import_gaps(one, asked) if asked.fill_gaps else [_import_one(one, asked)]
            meter.add(float(len(one.bars)), len(one.bars))
        except MatsError as error:
            failed.append({"symbol": one.symbol, "error": error.message})
            if len(found) == 1:
                raise
        meter.end_series()
    if failed and not series:
        raise ConfigError(failed[0]["error"], code="ingest_failed")
    return series, failed


def _import_one(one: Imported, asked: IngestArgs) -> dict[str, Any]:
    source = f"file:{asked.path.name if asked.path is not None else ''}"[:80]
    # First: bars that come as they were traded are brought to the scale of a series by the splits that are known.
    store_actions(one.symbol, one.actions, source=source)
    tags = {"source": source, **({"calendar": asked.calendar} if asked.calendar else {})}
    put = store_bars(one.symbol, one.timeframe.key, one.bars, tags, source=source, on_conflict=asked.on_conflict)
    first, last = one.bars.index[0].to_pydatetime(), one.bars.index[-1].to_pydatetime()
    return _plain(_row(one.symbol, one.timeframe.key, put, first, last, one.notes))


def _import_gaps(one: Imported, asked: IngestArgs) -> list[dict[str, Any]]:
    """Take of a symbol what its stored series lacks; nothing is said of a series that lacks nothing."""
    source = f"file:{asked.path.name if asked.path is not None else ''}"[:80]
    rows = []
    for lacking in find_lacking(get_ac(), [one.symbol], one.timeframe):
        put, notes = fill_from_file(one, lacking, get_ac(), source)
        first, last = (moment_of(edge) for edge in (lacking.gaps[0].first_ns, lacking.gaps[-1].last_ns))
        rows.append(_plain(_row(one.symbol, one.timeframe.key, put, first, last, notes)))
    return rows


def _row(series: str, timeframe: str, put: Put, first: datetime, last: datetime, notes: list[str]) -> dict[str, Any]:
    return {
        "series": series,
        "timeframe": timeframe,
        **asdict(put),
        "first": first,
        "last": last,
        "requests": 0,
        "notes": notes,
    }


def _book_actions(asked: IngestArgs) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    symbol = asked.symbols[0]
    if not asked.splits and not asked.dividends:
        raise ConfigError("Name a split or a dividend.", code="bad_arguments")
    version = store_actions(symbol, action_frame(asked.splits, asked.dividends, "by hand"), source="by hand")
    days = sorted({*asked.splits, *asked.dividends})
    row = {
        "series": symbol, "timeframe": "actions", "new": len(days), "known": 0, "replaced": 0, "first": str(days[0]),
        "last": str(days[-1]), "version": version, "requests": 0, "notes": [],
    }  # fmt: skip
    return [row], []
