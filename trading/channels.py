"""Brings alerts to people: mail, Telegram, Discord, webhooks, whatever Apprise knows by its address.

Owns: a channel's turn over the alerts that stand, retries, rates, its state, what is kept on the alert's row.
Leaves: when something is due (``alert_rules``), the alerts themselves (``alerts``), the threads (``engine.jobs``).
Rule: addresses come from the environment and appear nowhere else; a channel that fails is itself an alert, on the
others, and holds none of them up. Delivery never waits for the engine nor the engine for it; while the ledger cannot be
written, memory knows what was sent.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from django.db import DatabaseError, transaction
from django.db.models import Q

from trading.alert_rules import (
    Channel,
    Record,
    Rules,
    Standing,
    backoff,
    ended,
    failed,
    has_room,
    is_due,
    is_end_due,
    is_missed,
    succeeded,
)
from trading.models import Alert

logger = logging.getLogger(__name__)

FAILURES_TOLD = 3
SEND_TIMEOUT_S = 20.0
OWN_ALERT = "channel:"
END_TOLD = timedelta(hours=1)  # what ended longer ago is no news
MISSED_TOLD = timedelta(days=1)  # unless nobody was ever told of it
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
    """One channel as it did lately. ``records`` by alert: what is not on its row while that cannot be written."""

    sent: deque[datetime] = field(default_factory=lambda: deque(maxlen=2_000))
    last_sent: datetime | None = None
    failures: int = 0
    tried_at: datetime | None = None
    error: str = ""
    held: int = 0
    records: dict[int, Record] = field(default_factory=dict)


class AlertSender:
    """Delivers what stands. Each channel has its turns, on a thread of its own; ``status`` may be asked by any."""

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
        self._began = now()
        self._lock = threading.Lock()
        self._storing = threading.Lock()
        self._states = {channel.name: _State() for channel in self.channels}
        self._unstored: dict[str, Alert] = {}
        self._unstored_over: deque[Alert] = deque(maxlen=100)
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
            alert = self._unstored.pop(key, None)
            if alert is not None:
                alert.cleared_at = self._now()
                self._unstored_over.append(alert)

    def turn(self) -> None:
        """Give every channel its turn, one after the other."""
        for channel in self.channels:
            self.turn_of(channel)

    def turn_of(self, channel: Channel) -> None:
        """Send to a channel what is due, without a row first, then what was never tried, the gravest and oldest first.

        What a service refuses must not stand before all others for ever. Not for two threads at once.
        Raises: DatabaseError while the ledger cannot be read.
        """
        state = self._states[channel.name]
        with self._lock:
            unstored, unstored_over = list(self._unstored.values()), list(self._unstored_over)
        state.held = 0
        for alert in unstored:
            self._deliver(channel, state, alert)
        standing = list(Alert.objects.filter(cleared_at=None).order_by("id"))
        over = [*unstored_over, *self._over()]
        ids = {alert.pk for alert in (*unstored, *standing, *over)}
        state.records = {key: record for key, record in state.records.items() if key in ids}
        for alert in sorted(
            standing, key=lambda one: (self._record_of(channel, state, one).tries, one.severity != "critical")
        ):
            self._deliver(channel, state, alert)
        for alert in over:
            self._tell_end(channel, state, alert)

    def _over(self) -> list[Alert]:
        """Return what ended lately and a channel may not know of, or may have had."""
        is_tried, is_grave = ~Q(delivery={}), Q(severity="critical", opened_at__gte=self._began)
        ended_lately = Alert.objects.filter(cleared_at__gte=self._now() - MISSED_TOLD)
        return list(ended_lately.filter(is_tried | is_grave).order_by("id"))

    @staticmethod
    def _record_of(channel: Channel, state: _State, alert: Alert) -> Record:
        known = state.records.get(alert.pk)
        if known is None:
            kept = alert.delivery.get(channel.name)
            known = state.records[alert.pk] = Record() if kept is None else Record.from_json(kept)
        return known

    def _tell_end(self, channel: Channel, state: _State, alert: Alert) -> None:
        record, now = self._record_of(channel, state, alert), self._now()
        if alert.cleared_at is None or alert.key == f"{OWN_ALERT}{channel.name}":
            return
        if is_missed(_facts(alert), channel, record, self._rules, now):
            self._send(channel, state, alert, record, missed_of(alert), alert.severity)
        elif alert.cleared_at >= now - END_TOLD and is_end_due(alert.severity, record, self._rules, now):
            self._send(channel, state, alert, record, end_of(alert, record), "info")

    def _deliver(self, channel: Channel, state: _State, alert: Alert) -> None:
        if alert.key == f"{OWN_ALERT}{channel.name}":
            return  # it cannot carry the news of its own failure
        record = self._record_of(channel, state, alert)
        if is_due(_facts(alert), channel, record, self._rules, self._now()):
            self._send(channel, state, alert, record, words_of(alert), alert.severity)

    def _send(
        self, channel: Channel, state: _State, alert: Alert, record: Record, words: tuple[str, str], severity: str
    ) -> None:
        """Try once, unless the channel is full or failed just now, and keep what came of it."""
        now = self._now()
        if not has_room(list(state.sent), alert.severity, self._rules, now):
            state.held += 1
            return
        if state.tried_at is not None and now - state.tried_at < backoff(state.failures):
            return  # a service that hangs for every alert would keep the next grave one for minutes
        error = self._try(channel, *words, severity)
        now = self._now()
        self._note(channel, state, error, now)
        if error:
            logger.warning("alert not delivered key=%s channel=%s reason=%s", alert.key, channel.name, error)
            outcome = failed(record, error, now)
        else:
            logger.info("alert delivered key=%s channel=%s severity=%s", alert.key, channel.name, alert.severity)
            is_over = alert.cleared_at is not None
            outcome = ended(record, alert.severity, now) if is_over else succeeded(alert.severity, alert.title, now)
        state.records[alert.pk] = outcome
        self._keep(alert.pk, channel, outcome)

    def _try(self, channel: Channel, title: str, text: str, severity: str) -> str:
        try:
            return self._transport(channel, title, text, severity)
        except Exception as error:  # noqa: BLE001 - border to the plugins of others; their traceback may show the address
            return channel.redact(f"{type(error).__name__}: {error}")

    def _note(self, channel: Channel, state: _State, error: str, now: datetime) -> None:
        with self._lock:
            was_failing = state.failures >= FAILURES_TOLD
            state.failures = state.failures + 1 if error else 0
            state.tried_at = now if error else None
            state.error = error
            if not error:
                state.last_sent = now
                state.sent.append(now)
            is_failing = state.failures >= FAILURES_TOLD
        if is_failing != was_failing:
            self._tell(channel.name, error)

    def _keep(self, alert_id: int, channel: Channel, record: Record) -> None:
        """Note it on the alert's row, beside what the other channels noted."""
        if alert_id < 0:
            return  # it has no row
        try:
            with self._storing, transaction.atomic():
                row = Alert.objects.select_for_update().only("delivery").get(pk=alert_id)
                row.delivery = {**row.delivery, channel.name: record.as_json()}
                row.save(update_fields=["delivery"])
        except (DatabaseError, Alert.DoesNotExist) as error:
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


def _facts(alert: Alert) -> Standing:
    return Standing(alert.severity, alert.opened_at, alert.acknowledged_at is not None)


def words_of(alert: Alert) -> tuple[str, str]:
    """Return title and text of an alert as they are sent."""
    lines = [alert.text, f"Since {alert.opened_at:%Y-%m-%d %H:%M:%S} UTC, {alert.times}×."]
    if alert.strategy:
        lines.append(f"Strategy {alert.strategy}.")
    return f"[MATS {alert.severity}] {alert.title}", "\n".join(line for line in lines if line)


def end_of(alert: Alert, record: Record) -> tuple[str, str]:
    """Return title and text of the news that an alert is over, in the words in which the channel had it."""
    title, severity = record.title or alert.title, record.severity or alert.severity
    return f"[MATS over] {title}", f"It was {severity} since {alert.opened_at:%Y-%m-%d %H:%M:%S} UTC."


def missed_of(alert: Alert) -> tuple[str, str]:
    """Return title and text of an alert that was over before it could be sent."""
    title, text = words_of(alert)
    until = f"{alert.cleared_at:%Y-%m-%d %H:%M:%S}" if alert.cleared_at is not None else "now"
    return title.replace("]", ", over]", 1), f"{text}\nOver since {until} UTC; it could not be sent before."
