"""Brings alerts to people: mail, Telegram, Discord, webhooks, whatever Apprise knows by its address.

Owns: the turn over the alerts that stand, retries, rates, the state of each channel, what is kept on the alert's row.
Leaves: when something is due (``alert_rules``), the alerts themselves (``alerts``), the thread (``engine.jobs``).
Rule: addresses come from the environment and appear nowhere else; a channel that fails is itself an alert, on the
others. Delivery never waits for the engine nor the engine for it; while the ledger cannot be written, memory knows what
was sent.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from django.db import DatabaseError

from trading.alert_rules import Channel, Record, Rules, Standing, ended, failed, has_room, is_due, is_end_due, succeeded
from trading.models import Alert

logger = logging.getLogger(__name__)

FAILURES_TOLD = 3
SEND_TIMEOUT_S = 20.0
OWN_ALERT = "channel:"
END_TOLD = timedelta(hours=1)  # what ended longer ago is no news
_KINDS = {"info": "info", "warning": "warning", "critical": "failure"}
_TALKATIVE = ("apprise", "urllib3", "requests_oauthlib", "oauthlib", "requests", "smtplib")
_UNREADABLE = "The address is not understood; see the list of services of Apprise."


class Transport(Protocol):
    """Sends one message to one channel."""

    def __call__(self, channel: Channel, title: str, text: str, severity: str) -> str:
        """Return why it failed, without any part of the address; empty when it was delivered."""


def send_by_apprise(channel: Channel, title: str, text: str, severity: str) -> str:
    """Send by Apprise; what its plugins log goes into the answer and nowhere else, since it may carry the address."""
    _muffle()
    import apprise  # costs a third of a second: only who sends needs it

    service = apprise.Apprise()
    capture: Any = apprise.LogCapture  # untyped there
    with capture(level=logging.WARNING, fmt="%(message)s") as said:
        if not service.add(channel.url):
            return _UNREADABLE
        is_sent = bool(service.notify(body=text, title=title, notify_type=_KINDS[severity], timeout=SEND_TIMEOUT_S))
        words = str(said.getvalue()).strip()
    if is_sent:
        return ""
    return channel.redact(words.splitlines()[-1] if words else "It was not delivered; the service gave no reason.")


def _muffle() -> None:
    """Keep addresses out of our logs at every level: plugins log them, and so does what they send with."""
    logging.getLogger("apprise").propagate = False
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


@dataclass(slots=True)
class _State:
    """One channel as it did lately."""

    sent: deque[datetime] = field(default_factory=lambda: deque(maxlen=2_000))
    last_sent: datetime | None = None
    failures: int = 0
    error: str = ""
    held: int = 0


class AlertSender:
    """Delivers what stands. ``turn`` runs on a thread of its own; ``status`` may be asked by any."""

    def __init__(
        self,
        channels: Sequence[Channel],
        rules: Rules,
        *,
        tell: Callable[[str, str], None] = lambda name, error: None,
        transport: Transport = send_by_apprise,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.channels = tuple(channels)
        self._rules = rules
        self._tell = tell
        self._transport = transport
        self._now = now
        self._lock = threading.Lock()
        self._states = {channel.name: _State() for channel in self.channels}
        self._records: dict[int, dict[str, Record]] = {}
        self._unstored: dict[str, Alert] = {}
        self._shouts = 0

    def shout(self, key: str, title: str, text: str) -> None:
        """Have a critical alert delivered that no row can be written for; it stands until ``hush``. Thread-safe."""
        now = self._now()
        with self._lock:
            if key not in self._unstored:
                self._shouts += 1
                self._unstored[key] = Alert(
                    pk=-self._shouts,
                    key=key,
                    severity="critical",
                    title=title,
                    text=text,
                    opened_at=now,
                    last_at=now,
                )

    def hush(self, key: str) -> None:
        """End what ``shout`` began; harmless when nothing did. Thread-safe."""
        with self._lock:
            self._unstored.pop(key, None)

    def turn(self) -> None:
        """Send what is due of the alerts that stand, those without a row first, then the gravest and oldest.

        Raises: DatabaseError while the ledger cannot be read.
        """
        if not self.channels:
            return
        with self._lock:
            unstored = list(self._unstored.values())
        for state in self._states.values():
            state.held = 0
        for alert in unstored:
            self._deliver(alert)
        standing = list(Alert.objects.filter(cleared_at=None).order_by("id"))
        ids = {alert.pk for alert in (*unstored, *standing)}
        over = list(Alert.objects.filter(cleared_at__gte=self._now() - END_TOLD).exclude(delivery={}).order_by("id"))
        ids.update(alert.pk for alert in over)
        self._records = {key: kept for key, kept in self._records.items() if key in ids}
        for alert in sorted(standing, key=lambda one: one.severity != "critical"):
            self._deliver(alert)
        for alert in over:
            self._tell_end(alert)

    def _records_of(self, alert: Alert) -> dict[str, Record]:
        return self._records.setdefault(alert.pk, {name: Record.from_json(row) for name, row in alert.delivery.items()})

    def _tell_end(self, alert: Alert) -> None:
        records, changed = self._records_of(alert), False
        for channel in self.channels:
            record = records.get(channel.name, Record())
            if is_end_due(alert.severity, record, self._rules, self._now()):
                outcome = self._send(channel, alert, record, is_over=True)
                if outcome is not None:
                    records[channel.name], changed = outcome, True
        if changed:
            self._keep(alert.pk, records)

    def _deliver(self, alert: Alert) -> None:
        records = self._records_of(alert)
        facts = Standing(alert.severity, alert.opened_at, alert.acknowledged_at is not None)
        changed = False
        for channel in self.channels:
            record = records.get(channel.name, Record())
            if alert.key == f"{OWN_ALERT}{channel.name}":
                continue  # it cannot carry the news of its own failure
            if is_due(facts, channel, record, self._rules, self._now()):
                outcome = self._send(channel, alert, record)
                changed = changed or outcome is not None
                if outcome is not None:
                    records[channel.name] = outcome
        if changed and alert.pk > 0:
            self._keep(alert.pk, records)

    def _send(self, channel: Channel, alert: Alert, record: Record, *, is_over: bool = False) -> Record | None:
        state = self._states[channel.name]
        if not has_room(list(state.sent), alert.severity, self._rules, self._now()):
            state.held += 1
            return None
        title, text = end_of(alert) if is_over else words_of(alert)
        error = self._try(channel, title, text, "info" if is_over else alert.severity)
        now = self._now()
        self._note(channel, state, error, now)
        if error:
            logger.warning("alert not delivered key=%s channel=%s reason=%s", alert.key, channel.name, error)
            return failed(record, error, now)
        logger.info("alert delivered key=%s channel=%s severity=%s", alert.key, channel.name, alert.severity)
        return ended(record, now) if is_over else succeeded(alert.severity, now)

    def _try(self, channel: Channel, title: str, text: str, severity: str) -> str:
        try:
            return self._transport(channel, title, text, severity)
        except Exception as error:  # noqa: BLE001 - border to the plugins of others; their traceback may show the address
            return channel.redact(f"{type(error).__name__}: {error}")

    def _note(self, channel: Channel, state: _State, error: str, now: datetime) -> None:
        with self._lock:
            was_failing = state.failures >= FAILURES_TOLD
            state.failures = state.failures + 1 if error else 0
            state.error = error
            if not error:
                state.last_sent = now
                state.sent.append(now)
            is_failing = state.failures >= FAILURES_TOLD
        if is_failing != was_failing:
            self._tell(channel.name, error)

    def _keep(self, alert_id: int, records: dict[str, Record]) -> None:
        try:
            Alert.objects.filter(pk=alert_id).update(delivery={name: one.as_json() for name, one in records.items()})
        except DatabaseError as error:
            logger.warning("delivery not noted alert=%s reason=%s", alert_id, error)

    def status(self) -> list[dict[str, Any]]:
        """Describe the channels for the heartbeat row; no addresses."""
        with self._lock:
            return [
                {
                    "name": channel.name,
                    "threshold": channel.threshold,
                    "last_sent": None if state.last_sent is None else state.last_sent.isoformat(timespec="seconds"),
                    "failures": state.failures,
                    "error": state.error,
                    "held": state.held,
                }
                for channel, state in ((one, self._states[one.name]) for one in self.channels)
            ]


def words_of(alert: Alert) -> tuple[str, str]:
    """Return title and text of an alert as they are sent."""
    lines = [alert.text, f"Since {alert.opened_at:%Y-%m-%d %H:%M:%S} UTC, {alert.times}×."]
    if alert.strategy:
        lines.append(f"Strategy {alert.strategy}.")
    return f"[MATS {alert.severity}] {alert.title}", "\n".join(line for line in lines if line)


def end_of(alert: Alert) -> tuple[str, str]:
    """Return title and text of the news that an alert is over."""
    return f"[MATS over] {alert.title}", f"It was {alert.severity} since {alert.opened_at:%Y-%m-%d %H:%M:%S} UTC."
