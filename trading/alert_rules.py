"""When an alert goes to a channel, when again, and when not now. Pure.

Owns: the words of the settings (channels, thresholds, quiet hours), and the decision for one alert and one channel.
Leaves: sending (``channels``), which alerts there are (``alerts``).
Rule: an alert that stands is sent once, again when it escalates, and every few hours while it is critical and nobody
acknowledged it. What is held back (quiet hours, rate) is sent later if it still stands; a grave one, or one that a
channel failed to take, also when it is over by then. Addresses are secrets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from strategies.exceptions import ConfigError

RANK = {"info": 0, "warning": 1, "critical": 2}
RETRY_FIRST, RETRY_MAX = timedelta(seconds=5), timedelta(minutes=5)
HOUR = timedelta(hours=1)
SHOWN_SECRET = "…"  # noqa: S105 - what stands in the place of one
_CHANNEL = re.compile(r"(?:(?P<tag>[a-z]+(?:,[A-Za-z0-9_-]+)?)=)?(?P<url>[a-z][a-z0-9+.-]*://\S+)")
_QUIET = re.compile(r"(\d{2}:\d{2})-(\d{2}:\d{2})(?: (\S+))?")
_SHORT = 4  # shorter parts of an address give nothing away


@dataclass(frozen=True, slots=True)
class Channel:
    """One address that alerts go to, and how grave an alert has to be."""

    name: str
    threshold: str
    url: str = field(repr=False)

    def redact(self, text: str) -> str:
        """Return a text without any part of the address."""
        parts = {part for part in re.split(r"[^A-Za-z0-9_.%-]+", self.url) if len(part) >= _SHORT}
        for part in sorted({*parts, self.url}, key=len, reverse=True):
            text = text.replace(part, SHOWN_SECRET)
        return text


@dataclass(frozen=True, slots=True)
class QuietHours:
    """When only critical alerts are sent. ``start`` equal to ``end`` is never."""

    start: time = time(0)
    end: time = time(0)
    zone: str = "UTC"

    def covers(self, now: datetime) -> bool:
        """Tell whether it is quiet at a moment."""
        at = now.astimezone(ZoneInfo(self.zone)).time()
        if self.start <= self.end:
            return self.start <= at < self.end
        return at >= self.start or at < self.end


@dataclass(frozen=True, slots=True)
class Rules:
    """How often, and when. ``per_hour`` counts alerts below critical; critical ones may be twice as many."""

    repeat: timedelta = timedelta(hours=4)
    per_hour: int = 20
    quiet: QuietHours = QuietHours()


@dataclass(frozen=True, slots=True)
class Standing:
    """An alert that stands, as far as delivery looks at it."""

    severity: str
    opened_at: datetime
    is_acknowledged: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of an alert on one channel: the last success, the failures since, whether its end was told.

    ``title`` is what was sent then: an alert may have other words by the time it ends.
    """

    sent_at: datetime | None = None
    severity: str = ""
    title: str = ""
    is_over: bool = False
    tries: int = 0
    tried_at: datetime | None = None
    error: str = ""

    def as_json(self) -> dict[str, object]:
        """Return the record as the alert's row keeps it."""
        return {
            "sent_at": None if self.sent_at is None else self.sent_at.isoformat(),
            "severity": self.severity,
            "title": self.title,
            "is_over": self.is_over,
            "tries": self.tries,
            "tried_at": None if self.tried_at is None else self.tried_at.isoformat(),
            "error": self.error,
        }

    @classmethod
    def from_json(cls, row: Mapping[str, object]) -> Record:
        """Read what ``as_json`` wrote."""
        sent, tried = row.get("sent_at"), row.get("tried_at")
        return cls(
            None if sent is None else datetime.fromisoformat(str(sent)),
            str(row.get("severity") or ""),
            str(row.get("title") or ""),
            bool(row.get("is_over")),
            int(str(row.get("tries") or 0)),
            None if tried is None else datetime.fromisoformat(str(tried)),
            str(row.get("error") or ""),
        )


def is_due(alert: Standing, channel: Channel, record: Record, rules: Rules, now: datetime) -> bool:
    """Tell whether an alert should go to a channel now, its rate apart."""
    if RANK[alert.severity] < RANK[channel.threshold]:
        return False
    if not _is_wanted(alert, record, rules, now):
        return False
    if not _has_waited(record, now):
        return False
    return alert.severity == "critical" or not rules.quiet.covers(now)


def is_end_due(severity: str, record: Record, rules: Rules, now: datetime) -> bool:
    """Tell whether a channel that had an alert should hear now that it is over."""
    if record.sent_at is None or record.is_over or not _has_waited(record, now):
        return False
    return severity == "critical" or not rules.quiet.covers(now)


def is_missed(alert: Standing, channel: Channel, record: Record, rules: Rules, now: datetime) -> bool:
    """Tell whether an alert that is over should still go to a channel that never had it.

    A grave one should, and one that the channel failed to take; what waited for the morning or for room should not.
    """
    if record.sent_at is not None or RANK[alert.severity] < RANK[channel.threshold] or not _has_waited(record, now):
        return False
    if alert.is_acknowledged:
        return False
    if alert.severity == "critical":
        return True
    return record.tries > 0 and not rules.quiet.covers(now)


def _has_waited(record: Record, now: datetime) -> bool:
    return not record.tries or record.tried_at is None or now - record.tried_at >= backoff(record.tries)


def _is_wanted(alert: Standing, record: Record, rules: Rules, now: datetime) -> bool:
    if record.sent_at is None:
        return True
    if RANK[alert.severity] > RANK.get(record.severity, -1):
        return True
    repeats = alert.severity == "critical" and not alert.is_acknowledged
    return repeats and now - record.sent_at >= rules.repeat


def backoff(tries: int) -> timedelta:
    """Return how long to wait after so many failures."""
    return min(RETRY_MAX, RETRY_FIRST * (1 << min(tries - 1, 16)))


def has_room(sent: Sequence[datetime], severity: str, rules: Rules, now: datetime) -> bool:
    """Tell whether a channel may take one more within the hour."""
    recent = sum(1 for moment in sent if now - moment < HOUR)
    return recent < rules.per_hour * (2 if severity == "critical" else 1)


def succeeded(severity: str, title: str, now: datetime) -> Record:
    """Return the record after an alert was delivered."""
    return Record(sent_at=now, severity=severity, title=title)


def ended(record: Record, severity: str, now: datetime) -> Record:
    """Return the record after its end was told."""
    return Record(record.sent_at or now, record.severity or severity, record.title, is_over=True, tried_at=now)


def failed(record: Record, error: str, now: datetime) -> Record:
    """Return the record after a try that failed."""
    return replace(record, tries=record.tries + 1, tried_at=now, error=error[:200])


def parse_channels(words: Sequence[str], setting: str) -> tuple[Channel, ...]:
    """Read ``[severity[,name]=]address``; without a severity a channel takes warnings and worse.

    Raises: ConfigError that names the setting and the place, never the address.
    """
    channels: list[Channel] = []
    for place, word in enumerate(words, 1):
        found = _CHANNEL.fullmatch(word)
        severity, _, name = ((found["tag"] or "") if found else "").partition(",")
        severity = severity or "warning"
        if found is None or severity not in RANK:
            raise ConfigError(
                f"{setting}: entry {place} is no channel; write critical=tgram://… with info, warning or critical.",
                setting=setting,
            )
        channels.append(Channel(name or f"{found['url'].partition('://')[0]}-{place}", severity, found["url"]))
    names = [channel.name for channel in channels]
    if len(set(names)) < len(names):
        raise ConfigError(f"{setting}: two channels have the same name.", setting=setting)
    return tuple(channels)


def parse_quiet(text: str, setting: str) -> QuietHours:
    """Read ``22:00-07:00[ Zone/City]``; without a zone it is UTC; empty is never.

    Raises: ConfigError naming the setting.
    """
    if not text.strip():
        return QuietHours()
    found = _QUIET.fullmatch(text.strip())
    try:
        if found is None:
            raise ValueError
        zone = found[3] or "UTC"
        ZoneInfo(zone)
        return QuietHours(time.fromisoformat(found[1]), time.fromisoformat(found[2]), zone)
    except (ValueError, ZoneInfoNotFoundError, OSError):
        raise ConfigError(
            f"{setting}={text!r} are no quiet hours; write 22:00-07:00 Europe/Zurich.", setting=setting
        ) from None
