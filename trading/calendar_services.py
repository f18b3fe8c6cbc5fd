"""Writes on market hours and holidays: checked against the calendar they change, audited, told to the clocks.

Leaves: reading (``market.calendar_rows``, whose receivers hear every save), forms (``calendar_admin``).
Rule: a row that would make sessions overlap or run backwards is refused before it is stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from strategies import audit
from strategies.exceptions import ConfigError
from trading.market.calendar_rows import load_overrides
from trading.market.calendars import HolidayOverride, HoursOverride, Overrides, build_table, group_of
from trading.risk_services import facts_of
from trading.session_models import Holiday, MarketHours

Row = MarketHours | Holiday


@dataclass(frozen=True, slots=True)
class Imported:
    """How many rows of a file were new, changed, and there already."""

    added: int
    changed: int
    kept: int


def check_row(row: Row) -> None:
    """Lay a row over its calendar without storing it, and set its group to the group's own name.

    Raises: ConfigError (unknown_exchange, bad_sessions, calendar_bounds).
    """
    row.group = group_of(row.group)
    stored = load_overrides().of(row.group)
    if isinstance(row, Holiday):
        mine = HolidayOverride(row.group, row.day, row.name, row.closes_at, row.is_open)
        others = tuple(one for one in stored.holidays if one.day != row.day)
        _lay(row.group, row.day, Overrides(stored.hours, (*others, mine)))
        return
    hours = HoursOverride(
        row.group,
        row.valid_from,
        row.valid_to,
        row.regular_open,
        row.regular_close,
        row.pre_open,
        row.post_close,
    )
    kept = tuple(one for one in stored.hours if one.valid_from != row.valid_from)
    _lay(row.group, row.valid_from, Overrides((*kept, hours), stored.holidays))


def _lay(group: str, day: date, overrides: Overrides) -> None:
    build_table(group, date(day.year, 1, 1), date(day.year + 1, 12, 31), overrides=overrides)


def save_row(row: Row, *, actor: str, source: str) -> None:
    """Store a row.

    Raises: ConfigError (unknown_exchange, bad_sessions, bad_calendar) saying which field is wrong.
    """
    check_row(row)
    _store(row, actor, source)


def _store(row: Row, actor: str, source: str) -> None:
    try:
        row.full_clean()
    except ValidationError as error:
        raise ConfigError(" ".join(error.messages), code="bad_calendar") from error
    model: Any = type(row)
    with transaction.atomic():
        before = model.objects.select_for_update().filter(pk=row.pk).first()
        row.save()
        audit.record(
            f"calendar.{row._meta.model_name}_set",
            str(row),
            actor=actor,
            source=source,
            reason=row.reason if isinstance(row, MarketHours) else row.name,
            before=facts_of(before),
            after=facts_of(row),
        )


def remove_row(row: Row, *, actor: str, source: str) -> None:
    """Take a row away; the calendar holds again."""
    with transaction.atomic():
        before, subject = facts_of(row), str(row)
        row.delete()
        audit.record(f"calendar.{row._meta.model_name}_removed", subject, actor=actor, source=source, before=before)


def import_holidays(rows: Iterable[HolidayOverride], *, actor: str, source: str) -> Imported:
    """Store the holidays of a file, all or none; what is there already stays as it is.

    Raises: ConfigError (bad_sessions, bad_calendar).
    """
    rows = list(rows)
    for group in {one.group for one in rows}:
        _check_all(group, [one for one in rows if one.group == group])
    added = changed = kept = 0
    with transaction.atomic():
        for one in rows:
            row = Holiday.objects.select_for_update().filter(group=one.group, day=one.day).first()
            wanted = {"name": one.name, "closes_at": one.closes_at, "is_open": one.is_open}
            if row is not None and all(getattr(row, name) == value for name, value in wanted.items()):
                kept += 1
                continue
            added, changed = (added + 1, changed) if row is None else (added, changed + 1)
            row = row or Holiday(group=one.group, day=one.day)
            for name, value in wanted.items():
                setattr(row, name, value)
            _store(row, actor, source)
    return Imported(added, changed, kept)


def _check_all(group: str, rows: list[HolidayOverride]) -> None:
    stored = load_overrides().of(group)
    days = {one.day for one in rows}
    others = tuple(one for one in stored.holidays if one.day not in days)
    first, last = date(min(days).year, 1, 1), date(max(days).year, 12, 31)
    build_table(group, first, last, overrides=Overrides(stored.hours, (*others, *rows)))
