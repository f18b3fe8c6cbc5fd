"""When the gateway's next scheduled reset is, of a configured time of day. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_TEXT = re.compile(r"([01]?\d|2[0-3]):([0-5]\d) ([A-Za-z_]+(?:/[A-Za-z_+\-0-9]+)*)")


def next_reset(text: str, now: datetime) -> datetime | None:
    """Return the next moment of a daily time such as ``23:45 America/New_York``, in UTC; None for an empty text.

    Raises: ValueError when the text is no time with an IANA zone.
    """
    if not text:
        return None
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not HH:MM and a zone, as in 23:45 America/New_York")
    try:
        zone = ZoneInfo(found[3])
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"{found[3]!r} is no zone") from None
    local = now.astimezone(zone)
    for days in (0, 1):
        day = local.date() + timedelta(days=days)
        moment = datetime(day.year, day.month, day.day, int(found[1]), int(found[2]), tzinfo=zone).astimezone(UTC)
        if moment >= now:
            return moment
    return moment + timedelta(days=1)
