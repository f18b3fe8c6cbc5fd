"""Read the texts of a Flex statement's attributes: strict about what a number and a date are. Pure.

Source: IB lets the author of a query choose the spelling of dates. Those that can be read in one way only are taken;
``03/04/2026`` is refused, with what to set instead. Times without a zone are New York's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
_ABSENT = {"", "-", "--", "N/A"}
_NUMBER = re.compile(r"[+-]?(\d{1,18}|\d{1,3}(,\d{3}){1,5})(\.\d{1,20})?(E[+-]?\d{1,2})?", re.IGNORECASE)
_DAY = re.compile(r"(\d{4})(-?)(\d{2})\2(\d{2})")
_CLOCK = re.compile(r"(\d{2})(:?)(\d{2})\2(\d{2})(?:\.\d+)?\s*([A-Z]{1,4}|[+-]\d{2}:?\d{2})?")
_ZONES: dict[str, tzinfo] = {
    "EST": timezone(timedelta(hours=-5)),
    "EDT": timezone(timedelta(hours=-4)),
    "UTC": UTC,
    "GMT": UTC,
    "Z": UTC,
}
_LARGEST = Decimal("1E17")


class RowError(ValueError):
    """An attribute cannot be read; the text is one clause for a person."""


class Row:
    """The attributes of one element, read by name."""

    def __init__(self, attributes: Mapping[str, str]) -> None:
        self._attributes = attributes

    def text(self, name: str) -> str:
        """Return the text without surrounding blanks, empty when IB says that there is none."""
        value = self._attributes.get(name, "").strip()
        return "" if value in _ABSENT else value

    def need(self, name: str) -> str:
        """Return a text that must be there."""
        value = self.text(name)
        if not value:
            raise RowError(f"{name} is missing")
        return value

    def number(self, name: str) -> Decimal | None:
        """Return a number, None when there is none."""
        value = self.text(name)
        return to_number(value, name) if value else None

    def need_number(self, name: str) -> Decimal:
        """Return a number that must be there."""
        return to_number(self.need(name), name)

    def whole(self, name: str) -> int:
        """Return a whole number, 0 when there is none."""
        value = self.text(name)
        if not value:
            return 0
        if not (value.isascii() and value.isdigit() and len(value) <= 18):
            raise RowError(f"{name}={value[:40]!r} is no whole number")
        return int(value)

    def day(self, name: str) -> date | None:
        """Return a date, None when there is none."""
        value = self.text(name)
        return to_moment(value, name)[0].date() if value else None

    def moment(self, name: str) -> tuple[datetime, bool] | None:
        """Return a New York time and whether a time of day was given."""
        value = self.text(name)
        return to_moment(value, name) if value else None


def to_number(text: str, name: str) -> Decimal:
    """Return the number in a text; thousands may be parted by commas.

    >>> to_number("-1,234.50", "amount")
    Decimal('-1234.50')
    """
    if not _NUMBER.fullmatch(text):
        raise RowError(f"{name}={text[:40]!r} is no number")
    value = Decimal(text.replace(",", ""))
    if abs(value) > _LARGEST:
        raise RowError(f"{name}={text[:40]!r} is too large")
    return value


def to_moment(text: str, name: str) -> tuple[datetime, bool]:
    """Return a moment in New York, and whether the text gave a time of day.

    >>> to_moment("20260302;143000", "dateTime")[0].isoformat()
    '2026-03-02T14:30:00-05:00'
    >>> to_moment("2026-03-02", "date")[1]
    False
    """
    found = _DAY.match(text)
    if found is None:
        raise RowError(f"{name}={text[:40]!r} is no date; set the query's date format to yyyyMMdd or yyyy-MM-dd")
    try:
        day = date(int(found[1]), int(found[3]), int(found[4]))
    except ValueError:
        raise RowError(f"{name}={text[:40]!r} is no date") from None
    rest = text[found.end() :]
    if not rest:
        return datetime.combine(day, time(), NEW_YORK), False
    return datetime.combine(day, *_clock(rest, text, name)).astimezone(NEW_YORK), True


def _clock(rest: str, text: str, name: str) -> tuple[time, tzinfo]:
    found = _CLOCK.fullmatch(rest[1:].lstrip()) if rest[0] in ";,T " else None
    if found is None:
        raise RowError(f"{name}={text[:40]!r} is no time; set the query's time format to HHmmss or HH:mm:ss")
    try:
        return time(int(found[1]), int(found[3]), int(found[4])), _zone(found[5])
    except ValueError:
        raise RowError(f"{name}={text[:40]!r} is no time") from None


def _zone(text: str | None) -> tzinfo:
    if not text:
        return NEW_YORK
    if text in _ZONES:
        return _ZONES[text]
    if text[0] not in "+-":
        raise ValueError(text)
    sign = -1 if text[0] == "-" else 1
    return timezone(sign * timedelta(hours=int(text[1:3]), minutes=int(text[-2:])))
