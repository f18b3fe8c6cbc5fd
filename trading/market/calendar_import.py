"""Holidays from a CSV file.

Owns: columns, spellings, what is wrong with which line. Leaves: storing (``trading.calendar_services``). Pure.
Rule: a file is read whole or refused whole, so that half a calendar is never stored.
"""

from __future__ import annotations

import csv
import io
from datetime import date, time

from strategies.exceptions import ConfigError
from trading.market.calendars import HolidayOverride, group_of

COLUMNS = ("group", "day", "name", "closes_at", "is_open")
_SPELLINGS = {
    "date": "day",
    "exchange group": "group",
    "exchange_group": "group",
    "exchange": "group",
    "holiday name": "name",
    "holiday_name": "name",
    "early close time": "closes_at",
    "early_close_time": "closes_at",
    "notes": "",
}
_YES, _NO = {"true", "yes", "1", "open"}, {"", "false", "no", "0"}
MAX_ROWS = 20_000


def read_holidays(text: str, group: str | None = None) -> list[HolidayOverride]:
    """Return the rows of a CSV file with a header; ``group`` is taken where a row names none.

    Shape: columns ``day`` (2026-12-24) and ``name``, optionally ``group``, ``closes_at`` (13:00, local; empty: closed
    all day) and ``is_open`` (yes: open though the calendar says closed). A day that stands twice alike is one.
    Raises: ConfigError (bad_calendar_file) naming the line.
    """
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff")))
    header = [_SPELLINGS.get(name.strip().lower(), name.strip().lower()) for name in next(reader, [])]
    unknown = sorted({name for name in header if name and name not in COLUMNS})
    if unknown or "day" not in header:
        raise _error(
            1, f"the header has {', '.join(unknown) or 'no day'}; columns are {', '.join(COLUMNS)}, separated by commas"
        )
    found: dict[tuple[str, date], tuple[int, HolidayOverride]] = {}
    for cells in reader:
        line = reader.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header) or len(found) >= MAX_ROWS:
            raise _error(line, f"{len(cells)} fields under {len(header)} columns, or more than {MAX_ROWS} rows")
        row = _row(line, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}, group)
        before = found.setdefault((row.group, row.day), (line, row))
        if before[1] != row:
            raise _error(line, f"{row.group} {row.day} stands in line {before[0]}, too, and differently")
    return [row for _, row in found.values()]


def _row(line: int, cells: dict[str, str], group: str | None) -> HolidayOverride:
    named = cells.get("group") or group
    if not named:
        raise _error(line, "no group; add the column or give one for the whole file")
    is_open = cells.get("is_open", "").lower()
    if is_open not in _YES | _NO:
        raise _error(line, f"is_open is yes or no, not «{is_open}»")
    closes_at = cells.get("closes_at", "")
    try:
        return HolidayOverride(
            group_of(named),
            date.fromisoformat(cells["day"]),
            cells.get("name", "")[:80] or "Holiday",
            time.fromisoformat(closes_at) if closes_at else None,
            is_open in _YES,
        )
    except ConfigError as error:
        raise _error(line, error.message) from None
    except ValueError:
        raise _error(
            line, f"day is written 2026-12-24 and closes_at 13:00, not «{cells['day']}» and «{closes_at}»"
        ) from None


def _error(line: int, text: str) -> ConfigError:
    return ConfigError(f"Line {line}: {text.rstrip('.')}.", code="bad_calendar_file", line=line)
