"""Bar lengths as IB sells and the store names them: ``5_secs``, ``1_min``, ``1_hour``, ``1_day``, ``1_week``.

Owns: the names in every spelling, IB's words for them, how much one request may ask for. Pure.
Leaves: intervals of reactive strategies (``intervals``; their ``key`` is a name of this table), names of series
(``series_names``).
Rule: an unknown name is an error, never a guess. Daily bars are stamped 00:00 UTC of the session's local day, weekly
ones of its Monday.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

from strategies.exceptions import ConfigError

DAY = timedelta(days=1)
SERIES_SUFFIX = re.compile(r"_(?:\d+_(?:secs|min|hour|day|week)|actions)$")


@dataclass(frozen=True, slots=True)
class Timeframe:
    """One bar length: our key, IB's words, and the most that one IB request should ask for."""

    key: str
    bar_size: str
    length: timedelta
    longest: timedelta

    @property
    def is_intraday(self) -> bool:
        """Tell whether it is cut from a session, not from a calendar."""
        return self.length < DAY


def _of(key: str, bar_size: str, longest: timedelta) -> Timeframe:
    count, unit = key.split("_")
    lengths = {"secs": "seconds", "min": "minutes", "hour": "hours", "day": "days", "week": "weeks"}
    return Timeframe(key, bar_size, timedelta(**{lengths[unit]: int(count)}), longest)


# How much one request may ask for follows IB's table of durations and bar sizes, a little below its own limits.
TIMEFRAMES = {
    frame.key: frame
    for frame in (
        _of("1_secs", "1 secs", timedelta(minutes=30)),
        _of("5_secs", "5 secs", timedelta(hours=1)),
        _of("10_secs", "10 secs", timedelta(hours=4)),
        _of("15_secs", "15 secs", timedelta(hours=4)),
        _of("30_secs", "30 secs", timedelta(hours=8)),
        _of("1_min", "1 min", timedelta(days=7)),
        _of("2_min", "2 mins", timedelta(days=7)),
        _of("3_min", "3 mins", timedelta(days=7)),
        _of("5_min", "5 mins", timedelta(days=30)),
        _of("10_min", "10 mins", timedelta(days=30)),
        _of("15_min", "15 mins", timedelta(days=60)),
        _of("20_min", "20 mins", timedelta(days=60)),
        _of("30_min", "30 mins", timedelta(days=60)),
        _of("1_hour", "1 hour", timedelta(days=365)),
        _of("2_hour", "2 hours", timedelta(days=365)),
        _of("3_hour", "3 hours", timedelta(days=365)),
        _of("4_hour", "4 hours", timedelta(days=365)),
        _of("8_hour", "8 hours", timedelta(days=365)),
        _of("1_day", "1 day", timedelta(days=3650)),
        _of("1_week", "1 week", timedelta(days=3650)),
    )
}
_UNITS = {
    word: unit
    for unit, words in {
        "secs": "s sec secs second seconds",
        "min": "m min mins minute minutes",
        "hour": "h hour hours",
        "day": "d day days",
        "week": "w week weeks",
    }.items()
    for word in words.split()
}


def parse_timeframe(text: str) -> Timeframe:
    """Return the timeframe for ``1_min``, ``1 min``, ``1m``, ``60m``, ``1w``, …

    >>> parse_timeframe("5m").key, parse_timeframe("60m").key, parse_timeframe("1 week").key
    ('5_min', '1_hour', '1_week')

    Raises: ConfigError (unknown_timeframe) instead of guessing one.
    """
    match = re.fullmatch(r"(\d{1,5})[ _]?([a-z]+)", text.strip().lower())
    count, unit = (int(match[1]), _UNITS.get(match[2], "?")) if match else (0, "?")
    if unit == "min" and count and count % 60 == 0:
        count, unit = count // 60, "hour"
    key = f"{count}_{unit}"
    if key not in TIMEFRAMES:
        raise ConfigError(
            f"Timeframe {text!r} is unknown; use one of {', '.join(TIMEFRAMES)}.", code="unknown_timeframe"
        )
    return TIMEFRAMES[key]
