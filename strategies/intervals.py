"""Bar intervals in short form (``1m``, ``5m``, ``1d``) and their store keys (``1_min``, ``5_min``, ``1_day``).

Owns: parsing, lengths, base intervals, names of series. Leaves: calendars (``trading.market.time_manager``). Pure.
Rule: hours are written as minutes (``60m``) and ticks are refused, so that one length has one name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from strategies.exceptions import ConfigError

_TEXT = re.compile(r"^([1-9]\d{0,4})([smdw])$")
_SECONDS = {"s": 1, "m": 60, "d": 86_400, "w": 604_800}
_BASES = {"s": "1s", "m": "1m", "d": "1d", "w": "1w"}
_KEYS = {"s": "secs", "m": "min", "d": "day", "w": "week"}


@dataclass(frozen=True, slots=True)
class Interval:
    """One bar length. ``seconds`` is the nominal length: a trading day is shorter than 86,400 s of market time."""

    text: str
    count: int
    unit: str  # s, m, d or w
    seconds: int

    @property
    def base(self) -> str:
        """Return the interval that it is derived from: 1s, 1m, 1d or 1w."""
        return _BASES[self.unit]

    @property
    def is_intraday(self) -> bool:
        """Tell whether it is cut from a session, not from a calendar."""
        return self.unit in "sm"

    @property
    def key(self) -> str:
        """Return the store's name: ``5_min``; whole hours keep the store's word for them, ``1_hour``."""
        if self.unit == "m" and self.count % 60 == 0:
            return f"{self.count // 60}_hour"
        return f"{self.count}_{_KEYS[self.unit]}"


@lru_cache(maxsize=256)
def parse_interval(text: str) -> Interval:
    """Read ``5m``.

    >>> parse_interval("5m").seconds, parse_interval("60m").key, parse_interval("1d").key
    (300, '1_hour', '1_day')

    Raises: ConfigError (unknown_interval) for hours, ticks, quotes and everything else.
    """
    match = _TEXT.match(text)
    if match is None:
        raise ConfigError(
            f"«{text}» is no bar interval; write seconds, minutes, days or weeks like 5s, 1m, 60m, 1d, 1w "
            "(hours as minutes).",
            code="unknown_interval",
        )
    count, unit = int(match[1]), match[2]
    return Interval(text, count, unit, count * _SECONDS[unit])
