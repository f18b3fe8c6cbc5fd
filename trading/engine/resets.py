"""When IB and the gateway reset, by the calendar, and whether such a reset is over. Pure: times come in, times go out.

Owns: windows in their own zone, daylight saving included; from when on new orders wait, and until when.
Leaves: what the line does meanwhile (``ladder``), asking the clock (``link_watch``).
Rule: on the day on which an hour is repeated a window is as long as both of its readings; a reset is over when the
link came back within its window and the books were compared after that, or when they were compared after its end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from strategies.exceptions import ConfigError

NEW_YORK = "America/New_York"
NIGHTLY_DEFAULT = "00:15-01:45"  # North America; IB's system status page lists the other regions
WEEKLY_DEFAULT = "SUN 01:00-01:45"
OFF = "off"
LEAD = timedelta(seconds=60)
RESTART_SPAN = timedelta(minutes=10)  # what a restart of TWS or the gateway may take
_LOOKBACK = timedelta(days=2)
_DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_FORM = re.compile(
    r"(?:(?P<day>[A-Z]{3}) )?(?P<start>\d{2}:\d{2})(?:-(?P<end>\d{2}:\d{2}))?"
    r"(?: (?P<zone>[A-Za-z_]+(?:/[A-Za-z_+-]+)*))?"
)


class ResetKind(StrEnum):
    """Whose reset it is; of windows that overlap the later word here counts."""

    RESTART = "restart"
    NIGHTLY = "nightly"
    WEEKLY = "weekly"


_WORDS = {
    ResetKind.RESTART: "The scheduled restart of TWS or the gateway",
    ResetKind.NIGHTLY: "IB's nightly reset",
    ResetKind.WEEKLY: "IB's weekly reset, after which somebody has to log in,",
}
_RANK = list(ResetKind)


@dataclass(frozen=True, slots=True)
class ResetRule:
    """One reset by the wall clock of its zone; every day, or on one weekday (Monday is 0)."""

    kind: ResetKind
    start: time
    end: time
    zone: str = NEW_YORK
    weekday: int | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """One occurrence. Units: aware UTC; ``ends`` is outside."""

    kind: ResetKind
    begins: datetime
    ends: datetime


@dataclass(frozen=True, slots=True)
class Hold:
    """Why new orders wait, and until when at the latest."""

    window: Window
    retry_after_s: int

    @property
    def text(self) -> str:
        """Return the sentence that a refused order carries."""
        begins, ends = self.window.begins, self.window.ends
        return (
            f"{_WORDS[self.window.kind]} is due at {begins:%H:%M} UTC; new orders wait until it is over and the books "
            f"were compared, at the latest shortly after {ends:%H:%M} UTC. Cancels pass."
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """What happened to the link: when it last came back after a loss, and when the books were last compared."""

    recovered_at: datetime | None = None
    reconciled_at: datetime | None = None


def parse_reset(text: str, kind: ResetKind, setting: str) -> ResetRule | None:
    """Read ``[SUN ]HH:MM[-HH:MM][ Zone/City]``; None when it is empty or ``off``.

    Without an end it is a restart of ``RESTART_SPAN``; without a zone it is New York's time.
    Raises: ConfigError naming the setting.
    """
    if text.strip().lower() in ("", OFF):
        return None
    found = _FORM.fullmatch(text.strip())
    try:
        if found is None or (kind is ResetKind.WEEKLY) != bool(found["day"]):
            raise ValueError
        start = time.fromisoformat(found["start"])
        end = time.fromisoformat(found["end"]) if found["end"] else _later(start)
        zone = found["zone"] or NEW_YORK
        ZoneInfo(zone)
        weekday = _DAYS.index(found["day"]) if found["day"] else None
    except (ValueError, ZoneInfoNotFoundError, OSError):
        form = "SUN 01:00-01:45" if kind is ResetKind.WEEKLY else "00:15-01:45"
        raise ConfigError(
            f"{setting}={text!r} is no reset; write {form}, with a zone such as Europe/Zurich behind it if it is not "
            "New York's time, or off.",
            setting=setting,
        ) from None
    return ResetRule(kind, start, end, zone, weekday)


def _later(start: time) -> time:
    return (datetime.combine(datetime(2000, 1, 1, tzinfo=UTC), start) + RESTART_SPAN).time()


def windows(rules: Sequence[ResetRule], since: datetime, until: datetime) -> list[Window]:
    """Return the occurrences that touch [since, until), overlapping ones as one, in order."""
    found = sorted(
        (one for rule in rules for one in _occurrences(rule, since, until)), key=lambda one: (one.begins, one.ends)
    )
    merged: list[Window] = []
    for one in found:
        if merged and one.begins < merged[-1].ends:
            last = merged.pop()
            kind = max(last.kind, one.kind, key=_RANK.index)
            one = Window(kind, last.begins, max(last.ends, one.ends))
        merged.append(one)
    return merged


def _occurrences(rule: ResetRule, since: datetime, until: datetime) -> list[Window]:
    zone = ZoneInfo(rule.zone)
    day = since.astimezone(zone).date() - timedelta(days=1)
    last = until.astimezone(zone).date() + timedelta(days=1)
    found = []
    while day <= last:
        if rule.weekday is None or day.weekday() == rule.weekday:
            end_day = day if rule.end > rule.start else day + timedelta(days=1)
            begins = datetime.combine(day, rule.start, tzinfo=zone).astimezone(UTC)
            ends = datetime.combine(end_day, rule.end.replace(fold=1), tzinfo=zone).astimezone(UTC)
            if begins < until and ends > since:
                found.append(Window(rule.kind, begins, ends))
        day += timedelta(days=1)
    return found


def window_at(rules: Sequence[ResetRule], now: datetime) -> Window | None:
    """Return the window that ``now`` lies in."""
    return next((one for one in windows(rules, now, now + timedelta(seconds=1)) if one.begins <= now < one.ends), None)


def next_window(rules: Sequence[ResetRule], now: datetime) -> Window | None:
    """Return the window that ``now`` lies in, else the next one."""
    return next((one for one in windows(rules, now, now + timedelta(days=8)) if one.ends > now), None)


def hold_at(rules: Sequence[ResetRule], seen: Seen, now: datetime) -> Hold | None:
    """Return what makes new orders wait now: a reset within a minute, under way, or not yet followed by a look."""
    begun = [
        one for one in windows(rules, now - _LOOKBACK, now + LEAD + timedelta(seconds=1)) if one.begins - LEAD <= now
    ]
    if not begun or _is_over(begun[-1], seen):
        return None
    return Hold(begun[-1], max(1, round((begun[-1].ends - now).total_seconds())))


def _is_over(window: Window, seen: Seen) -> bool:
    if seen.reconciled_at is None:
        return False
    if seen.reconciled_at >= window.ends:
        return True
    back = seen.recovered_at
    return back is not None and back >= window.begins - LEAD and seen.reconciled_at >= back
