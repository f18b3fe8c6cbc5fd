"""Alerts: what a person should see and what stands until it is over.

Owns: raising, acknowledging and clearing, each with its event for the pages. Leaves: deciding that something is wrong.
Rule: one open alert for each key; raising it again counts and brings it up to date, so that trouble that repeats every
30 seconds is one line. Everything joins the caller's transaction: an alert exists with the fact that it tells of.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import transaction

from portfolio.bulk import chunks, update_rows
from strategies.exceptions import NotFoundError
from trading.engine import events
from trading.engine.events import Event, EventKind
from trading.models import Alert, Severity

logger = logging.getLogger(__name__)

_ROWS = 100  # written by one statement
_RANK = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


def raise_alert(
    key: str, severity: str, title: str, text: str = "", strategy: str = "", now: datetime | None = None
) -> Alert:
    """Open the alert of a key, or count it once more and bring its words up to date.

    One that a person acknowledged and that got worse since counts as not seen.
    Raises: ValueError for an unknown severity.
    """
    moment, words = now or datetime.now(UTC), Trouble(key, severity, title, text, strategy).words
    with transaction.atomic():
        alert, opened = Alert.objects.select_for_update().get_or_create(
            key=key[:96], cleared_at=None, defaults={**words, "opened_at": moment, "last_at": moment}
        )
        if opened:
            logger.warning("alert opened key=%s severity=%s title=%s", alert.key, alert.severity, alert.title)
            return _told(alert)
        changed = _repeat(alert, words, moment)
        alert.save()
        return _told(alert) if changed else alert


@dataclass(frozen=True, slots=True)
class Trouble:
    """What an alert says."""

    key: str
    severity: str
    title: str
    text: str = ""
    strategy: str = ""

    @property
    def words(self) -> dict[str, Any]:
        """What the alert's row keeps of it."""
        return {
            "severity": Severity(self.severity),
            "title": self.title[:160],
            "text": self.text,
            "strategy": self.strategy[:32],
        }


def raise_alerts(troubles: Iterable[Trouble], now: datetime) -> None:
    """Open or bring up to date many alerts, as ``raise_alert`` does one; only the message thread calls this."""
    latest = {trouble.key[:96]: trouble for trouble in troubles}
    with transaction.atomic():
        known = _open_alerts(latest)
        news = [
            Alert(key=key, **trouble.words, opened_at=now, last_at=now)
            for key, trouble in latest.items()
            if key not in known
        ]
        made = Alert.objects.bulk_create(news, batch_size=_ROWS)
        for alert in made:
            logger.warning("alert opened key=%s severity=%s title=%s", alert.key, alert.severity, alert.title)
        changed = [alert for key, alert in known.items() if _repeat(alert, latest[key].words, now)]
        columns = ("severity", "title", "text", "strategy", "times", "last_at", "acknowledged_at", "acknowledged_by")
        rows = ([*(getattr(alert, name) for name in columns), alert.pk] for alert in known.values())
        update_rows(Alert, columns, "id", rows)
        _tell([*made, *changed])


def clear_alerts(keys: Iterable[str], now: datetime) -> None:
    """End the open alerts of many keys, as ``clear_alert`` does one."""
    with transaction.atomic():
        known = list(_open_alerts({key[:96] for key in keys}).values())
        for alert in known:
            alert.cleared_at = now
            logger.info("alert cleared key=%s", alert.key)
        update_rows(Alert, ("cleared_at",), "id", ((now, alert.pk) for alert in known))
        _tell(known)


def _open_alerts(keys: Iterable[str]) -> dict[str, Alert]:
    found: dict[str, Alert] = {}
    for block in chunks(keys):
        rows = Alert.objects.select_for_update().filter(key__in=block, cleared_at=None)
        found.update((alert.key, alert) for alert in rows)
    return found


def _repeat(alert: Alert, words: Mapping[str, Any], moment: datetime) -> bool:
    """Count an open alert once more and take its new words; tell whether they differ."""
    worse = _RANK[words["severity"]] > _RANK[Severity(alert.severity)]
    changed = any(getattr(alert, name) != value for name, value in words.items())
    alert.times, alert.last_at = alert.times + 1, max(moment, alert.last_at)
    for name, value in words.items():
        setattr(alert, name, value)
    if worse:
        alert.acknowledged_at, alert.acknowledged_by = None, ""
    return changed


def clear_alert(key: str, now: datetime | None = None) -> bool:
    """End the open alert of a key; tell whether there was one."""
    with transaction.atomic():
        alert = Alert.objects.select_for_update().filter(key=key[:96], cleared_at=None).first()
        if alert is None:
            return False
        alert.cleared_at = now or datetime.now(UTC)
        alert.save(update_fields=["cleared_at"])
        _told(alert)
    logger.info("alert cleared key=%s", alert.key)
    return True


def acknowledge(alert_id: int, actor: str, now: datetime | None = None) -> Alert:
    """Note that a person saw an alert; it stays open until it is over. Seeing it again changes nothing.

    Raises: NotFoundError.
    """
    with transaction.atomic():
        alert = Alert.objects.select_for_update().filter(pk=alert_id).first()
        if alert is None:
            raise NotFoundError(f"There is no alert {alert_id}.", code="unknown_alert", alert=alert_id)
        if alert.acknowledged_at is None:
            alert.acknowledged_at, alert.acknowledged_by = now or datetime.now(UTC), actor[:150]
            alert.save(update_fields=["acknowledged_at", "acknowledged_by"])
            _told(alert)
    return alert


def acknowledge_key(key: str, actor: str, now: datetime | None = None) -> Alert | None:
    """Note that a person saw the open alert of a key; None when there is none."""
    found = Alert.objects.filter(key=key[:96], cleared_at=None).values_list("pk", flat=True).first()
    return None if found is None else acknowledge(found, actor, now)


def _tell(alerts: Iterable[Alert]) -> None:
    events.write([Event(EventKind.ALERT, events.alert_payload(alert), alert.strategy) for alert in alerts])


def _told(alert: Alert) -> Alert:
    _tell([alert])
    return alert
