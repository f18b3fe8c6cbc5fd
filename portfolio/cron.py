"""Times of a cron expression, UTC. Pure.

Rule: five fields (minute, hour, day, month, weekday); no seconds, so that nothing is due more often than each minute.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from itertools import islice, takewhile
from zoneinfo import ZoneInfo  # noqa: F401 - for the examples

from cronsim import CronSim, CronSimError

from strategies.exceptions import ConfigError

FIELDS = 5
CHANGED = "account.schedule"  # audited when an account gets another schedule: what was due before is not owed


def check_cron(text: str) -> str:
    """Return the expression with single spaces.

    >>> check_cron(" 30  14 * * 1-5 ")
    '30 14 * * 1-5'

    Raises: ConfigError (bad_cron) when it is none, or has no time at all.
    """
    parts = text.split()
    try:
        if len(parts) != FIELDS:
            raise CronSimError(f"it has {len(parts)} fields instead of {FIELDS}")
        next(CronSim(" ".join(parts), datetime(2026, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration) as error:
        raise ConfigError(
            f"«{text.strip()}» is no schedule: {error or 'it has no time at all'}. Write minute, hour, day, month and "
            "weekday in UTC, for example 30 14 * * 1-5.",
            code="bad_cron",
        ) from error
    return " ".join(parts)


def last_due(text: str, now: datetime) -> datetime:
    """Return the latest time of a schedule that is not after ``now``.

    >>> last_due("30 14 * * *", datetime(2026, 3, 2, 14, 29, tzinfo=UTC)).isoformat()
    '2026-03-01T14:30:00+00:00'
    >>> last_due("30 14 * * *", datetime(2026, 3, 2, 14, 30, tzinfo=UTC)).isoformat()
    '2026-03-02T14:30:00+00:00'

    Raises: ConfigError (bad_cron).
    """
    moment = now.astimezone(UTC).replace(second=0, microsecond=1)  # its own minute counts, too
    return next(CronSim(check_cron(text), moment, reverse=True))


def last_due_in(text: str, now: datetime, zone: tzinfo) -> datetime:
    """Return the latest time of a schedule whose fields are local to a zone, that is not after ``now``.

    >>> last_due_in("35 9 * * *", datetime(2026, 3, 2, 15, tzinfo=UTC), ZoneInfo("America/New_York")).isoformat()
    '2026-03-02T14:35:00+00:00'

    Raises: ConfigError (bad_cron).
    """
    moment = now.astimezone(zone).replace(second=0, microsecond=1)
    found: datetime = next(CronSim(check_cron(text), moment, reverse=True))
    return found.astimezone(UTC)


def next_due(text: str, now: datetime) -> datetime:
    """Return the first time of a schedule after ``now``.

    Raises: ConfigError (bad_cron).
    """
    return next(CronSim(check_cron(text), now.astimezone(UTC)))


def count_due(text: str, after: datetime, until: datetime, limit: int = 100) -> int:
    """Return how many times of a schedule lie in (after, until], at most ``limit``.

    >>> count_due("0 * * * *", datetime(2026, 3, 2, 9, tzinfo=UTC), datetime(2026, 3, 2, 12, tzinfo=UTC))
    3
    """
    times = CronSim(check_cron(text), after.astimezone(UTC))
    return sum(1 for _ in takewhile(lambda due: due <= until, islice(times, limit)))
