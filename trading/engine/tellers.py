"""Makes the parts that tell people of trouble: the watch over the link, and the sender of alerts.

Owns: wiring them to settings and queue. Leaves: everything else to them.
Rule: an alert's row is written by the message thread; these parts only hand it the job.
"""

from __future__ import annotations

from datetime import timedelta

from trading.alert_rules import Rules
from trading.channels import AlertSender
from trading.engine.check_alerts import report_channel, report_hold, report_link
from trading.engine.ladder import Concern
from trading.engine.link_watch import LinkWatch
from trading.engine.message_queue import MessageQueue
from trading.engine.options import EngineSettings


def link_watch(settings: EngineSettings, queue: MessageQueue) -> LinkWatch:
    """Return the watch over the link to IB."""

    def _tell(concern: Concern | None) -> None:
        queue.submit(lambda: report_link(concern), "link")

    def _tell_hold(words: str) -> None:
        queue.submit(lambda: report_hold(words), "reset")

    return LinkWatch(settings.resets, patience_s=settings.link_patience_s, tell=_tell, tell_hold=_tell_hold)


def alert_sender(settings: EngineSettings, queue: MessageQueue) -> AlertSender:
    """Return what brings alerts to the channels of the settings."""

    def _tell(name: str, error: str) -> None:
        queue.submit(lambda: report_channel(name, error), "channel")

    repeat = timedelta(seconds=settings.alert_repeat_s)
    return AlertSender(
        settings.alert_channels, Rules(repeat, settings.alerts_per_hour, settings.alert_quiet), tell=_tell
    )
