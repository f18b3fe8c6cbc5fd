"""The catalogue: every series and table in ArcticDB that is not the ledger's, with how whole it is.

Owns: what is listed, which calendar measures a series, remembering measurements. Leaves: measuring (``coverage``),
rows (``portfolio.arctic.browse``), pages and routes.
Rule: a list costs little: what was never measured in this process is measured while the time lasts that the caller
gives, newest first; the rest shows no figure rather than a guess. A measurement belongs to one version of a series and
one state of the calendars.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from portfolio.arctic.client import ArcticClient
from portfolio.arctic.market_data import ACTIONS, split_name
from portfolio.arctic.parcels import is_protected
from strategies.bar_series import Nanos
from strategies.exceptions import ConfigError, NotFoundError
from strategies.series_names import is_own_name
from strategies.timeframes import TIMEFRAMES, Timeframe
from trading.market.calendar_rows import load_overrides
from trading.market.calendars import Overrides
from trading.market.coverage import Coverage, Gap, hours_of, measure, table_of
from trading.market.frames import nanos_of_index

BARS, TABLE = "bars", "table"
SHOWN_GAPS = 100
CHART_POINTS = 1_400
_HIDDEN = ("backtests",)  # they have pages of their own
_PAIR = re.compile(r"[A-Z]{3}\.[A-Z]{3}", re.ASCII)
_kept: dict[tuple[str, str, str], tuple[tuple[int, int], Coverage | None]] = {}
_lock = threading.Lock()
MOST_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class Series:
    """One symbol of the store. ``kind``: bars, actions or table; times aware UTC; ``coverage`` None: not measured.

    ``no_calendar`` says why bars have no coverage at all, empty otherwise.
    """

    library: str
    name: str
    kind: str
    series: str
    timeframe: str
    rows: int
    version: int
    first: datetime | None
    last: datetime | None
    written_at: datetime | None
    source: str
    hours: str
    calendar: str
    split_basis: str
    coverage: Coverage | None = None
    no_calendar: str = ""


@dataclass(frozen=True, slots=True)
class Detail:
    """One series looked at closely; ``size_bytes`` None where the store does not tell."""

    series: Series
    gaps: list[Gap]
    gaps_left: int
    size_bytes: int | None
    columns: list[str]


def libraries(client: ArcticClient) -> list[str]:
    """Return the libraries that the catalogue lists."""
    return [name for name in client.list_libraries() if name not in _HIDDEN and not is_protected(name)]


def list_series(client: ArcticClient, *, query: str = "", budget_s: float = 1.5) -> list[Series]:
    """Return every series and table, by library and name; ``query`` is a part of the name."""
    wanted = query.strip().lower()
    found = [
        _facts(client, library, name)
        for library in libraries(client)
        for name in client.list_symbols(library)
        if wanted in f"{library}/{name}".lower()
    ]
    overrides = load_overrides()
    if any(one.calendar for one in found):
        hours_of("XNYS")  # loads the calendars, which takes a second and would use the time up
    deadline = time.monotonic() + budget_s
    newest = sorted(found, key=lambda one: one.written_at or datetime.min.replace(tzinfo=UTC), reverse=True)
    known = {
        (one.library, one.name): _measured(client, one, overrides, may_read=time.monotonic() < deadline)
        for one in newest
    }
    return [known[one.library, one.name] for one in found]


def measured(client: ArcticClient, library: str, name: str) -> Series:
    """Return one series with its coverage.

    Raises: NotFoundError.
    """
    if library not in client.list_libraries() or name not in client.list_symbols(library):
        raise NotFoundError(f"ArcticDB has no {library[:80]}/{name[:80]}.", code="unknown_symbol")
    return _measured(client, _facts(client, library, name), load_overrides(), may_read=True)


def look(client: ArcticClient, library: str, name: str) -> Detail:
    """Return one series with its gaps.

    Raises: NotFoundError.
    """
    series = measured(client, library, name)
    gaps = list(series.coverage.gaps) if series.coverage is not None else []
    return Detail(
        series,
        gaps[:SHOWN_GAPS],
        max(0, len(gaps) - SHOWN_GAPS),
        size_of(client, library, name),
        columns_of(client, library, name),
    )


def _facts(client: ArcticClient, library: str, name: str) -> Series:
    described = client.describe(library, name)
    metadata = client.metadata(library, name)
    split = split_name(name)
    series, timeframe = split if split is not None else (name, "")
    kind = TABLE if split is None else ACTIONS if timeframe == ACTIONS else BARS
    first, last = (_moment(edge) for edge in described.date_range) if described.row_count else (None, None)
    hours = metadata.get("use_rth")
    calendar, reason = _calendar_of(series, kind, metadata)
    return Series(
        library=library,
        name=name,
        kind=kind,
        series=series,
        timeframe=timeframe,
        rows=int(described.row_count),
        version=client.version_of(library, name) or 0,
        first=first,
        last=last,
        written_at=_moment(described.last_update_time),
        source=str(metadata.get("source", "")),
        hours="" if hours is None else "regular" if hours else "all",
        calendar=calendar,
        split_basis=str(metadata.get("split_basis", "")),
        no_calendar=reason,
    )


def _calendar_of(series: str, kind: str, metadata: dict[str, Any]) -> tuple[str, str]:
    if kind != BARS:
        return "", ""
    named = str(metadata.get("calendar", ""))
    if named:
        return named, ""
    if "calendar" in metadata or _PAIR.fullmatch(series):
        return "", "no calendar"
    stock = (metadata.get("sec_type", "STK"), metadata.get("currency", "USD"))
    if stock != ("STK", "USD") or (is_own_name(series) and "sec_type" not in metadata):
        return "", "no calendar is known for this contract"
    return "XNYS", ""


def _moment(value: Any) -> datetime | None:
    stamp = pd.Timestamp(value) if value is not None else pd.NaT
    if stamp is pd.NaT or pd.isna(stamp):
        return None
    utc = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
    found: datetime = utc.floor("us").to_pydatetime()
    return found


# -- measuring


def _measured(client: ArcticClient, one: Series, overrides: Overrides, *, may_read: bool) -> Series:
    if one.kind != BARS or not one.calendar or one.first is None or one.last is None:
        return one
    key, state = (client.uri, one.library, one.name), (one.version, hash(overrides))
    with _lock:
        kept = _kept.get(key)
    if kept is not None and kept[0] == state:
        return _with(one, kept[1])
    if not may_read:
        return one
    try:
        coverage = _coverage(client, one, overrides)
    except ConfigError:  # a calendar that does not reach so far, or is none
        coverage = None
    with _lock:
        if len(_kept) >= MOST_KEPT:
            _kept.clear()
        _kept[key] = (state, coverage)
    return _with(one, coverage)


def _with(one: Series, coverage: Coverage | None) -> Series:
    values = {name: getattr(one, name) for name in Series.__slots__}
    reason = "" if coverage is not None else f"the calendar {one.calendar} does not reach so far"
    return Series(**{**values, "coverage": coverage, "no_calendar": reason})


def _coverage(client: ArcticClient, one: Series, overrides: Overrides) -> Coverage:
    assert one.first is not None  # noqa: S101 - checked by the caller
    assert one.last is not None  # noqa: S101 - checked by the caller
    table = table_of(one.calendar, one.first.date(), one.last.date(), overrides)
    return measure(starts_of(client, one.library, one.name), table, frame_of(one))


def frame_of(one: Series) -> Timeframe:
    """Return the timeframe of bars."""
    return TIMEFRAMES[one.timeframe]


def starts_of(client: ArcticClient, library: str, name: str) -> Nanos:
    """Return the starts of a series' bars, sorted: its index alone is read."""
    data = client.read(library, name, columns=[]).data
    return nanos_of_index(data.index)


def size_of(client: ArcticClient, library: str, name: str) -> int | None:
    """Return the compressed bytes of a symbol with all its versions, None where the store does not tell."""
    tools = client.library(library).admin_tools()
    sizes = tools.get_sizes_for_symbol(name).values()
    return sum(int(size.bytes_compressed) for size in sizes)


def columns_of(client: ArcticClient, library: str, name: str) -> list[str]:
    """Return the columns of a symbol."""
    return [column.name for column in client.describe(library, name).columns]


# -- drawing


def closes_for_chart(client: ArcticClient, one: Series, points: int = CHART_POINTS) -> list[list[float]]:
    """Return moments (epoch seconds) and closes for drawing, thinned: of each stretch the last bar.

    A series longer than what one can see is read in full once; only its closes are.
    """
    if one.kind != BARS or not one.rows:
        return [[], []]
    data = client.read(one.library, one.name, columns=["close"]).data
    starts = nanos_of_index(data.index)
    closes = data["close"].to_numpy(dtype="float64")
    step = max(1, -(-len(starts) // points))
    places = np.unique(np.append(np.arange(step - 1, len(starts), step), len(starts) - 1))
    return [(starts[places] / 1e9).tolist(), closes[places].tolist()]
