"""Alerts: what a person should see and what stands until it is over.

Owns: raising, acknowledging and clearing, each with its event for the pages. Leaves: deciding that something is wrong.
Rule: one open alert for each key; raising it again counts and brings it up to date, so that trouble that repeats every
30 seconds is one line. Everything joins the caller's transaction: an alert exists with the fact that it tells of.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from django.db import transaction

from strategies.exceptions import NotFoundError
from trading.engine import events
from trading.engine.events import EventKind
from trading.models import Alert, Severity

logger = logging.getLogger(__name__)

_RANK = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


def raise_alert(
    key: str, severity: str, title: str, text: str = "", strategy: str = "", now: datetime | None = None
) -> Alert:
    """Open the alert of a key, or count it once more and bring its words up to date.

    One that a person acknowledged and that got worse since counts as not seen.
    Raises: ValueError for an unknown severity.
    """
    moment, grade = now or datetime.now(UTC), Severity(severity)
    words = {"severity": grade, "title": title[:160], "text": text, "strategy": strategy[:32]}
    with transaction.atomic():
        alert, opened = Alert.objects.select_for_update().get_or_create(
            key=key[:96], cleared_at=None, defaults={**words, "opened_at": moment, "last_at": moment}
        )
        if opened:
            logger.warning("alert opened key=%s severity=%s title=%s", alert.key, grade, alert.title)
            return _told(alert)
        worse = _RANK[grade] > _RANK[Severity(alert.severity)]
        changed = any(getattr(alert, name) != value for name, value in words.items())
        alert.times, alert.last_at = alert.times + 1, max(moment, alert.last_at)
        for name, value in words.items():
            setattr(alert, name, value)
        if worse:
            alert.acknowledged_at, alert.acknowledged_by = None, ""
        alert.save()
        return _told(alert) if changed else alert


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


def _told(alert: Alert) -> Alert:
    events.emit(EventKind.ALERT, events.alert_payload(alert), alert.strategy)
    return alert
