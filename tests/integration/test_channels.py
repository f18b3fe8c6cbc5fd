"""Alerts on their way to a real webhook on this machine."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from trading.alert_rules import Channel, Rules
from trading.alerts import acknowledge, clear_alert, raise_alert
from trading.channels import AlertSender, send_by_apprise
from trading.models import Alert

pytestmark = pytest.mark.django_db
SECRET = "hush-hush-token"


class Hook:
    """A webhook that remembers what it got and answers what it is told."""

    def __init__(self) -> None:
        self.status = 200
        self.got: list[dict[str, Any]] = []
        hook = self

        class _Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if hook.status == 200:
                    hook.got.append(json.loads(body))
                self.send_response(hook.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), _Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def channel(self, name: str = "hook", threshold: str = "warning") -> Channel:
        return Channel(name, threshold, f"json://127.0.0.1:{self.port}/{SECRET}")

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.got]


class Clock:
    def __init__(self) -> None:
        self.at = datetime(2026, 12, 15, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


def test_a_standing_alert_is_delivered_once_and_its_row_says_so(hook: Hook) -> None:
    raise_alert("link", "warning", "The link to IB is down", "It went.", strategy="ALPHA")
    sender = AlertSender([hook.channel()], Rules())
    sender.turn()
    raise_alert("link", "warning", "The link to IB is down", "It went again.", strategy="ALPHA")
    sender.turn()
    AlertSender([hook.channel()], Rules()).turn()  # another engine later
    assert hook.titles == ["[MATS warning] The link to IB is down"]
    assert "Strategy ALPHA." in hook.got[0]["message"]
    row = Alert.objects.get(key="link").delivery["hook"]
    assert (row["severity"], row["error"]) == ("warning", "")


def test_escalation_repetition_return_and_end_are_sent(hook: Hook) -> None:
    clock = Clock()
    sender = AlertSender([hook.channel()], Rules(), now=clock)
    raise_alert("link", "warning", "first")
    sender.turn()
    alert = raise_alert("link", "critical", "worse")
    sender.turn()
    clock.at += timedelta(hours=5)
    sender.turn()
    acknowledge(alert.pk, "boss")
    clock.at += timedelta(hours=5)
    sender.turn()
    clear_alert("link", clock.at - timedelta(days=1))  # too long ago to be news
    raise_alert("link", "warning", "again")
    sender.turn()
    clear_alert("link", clock.at)
    sender.turn()
    sender.turn()
    assert hook.titles == [
        "[MATS warning] first",
        "[MATS critical] worse",
        "[MATS critical] worse",
        "[MATS warning] again",
        "[MATS over] again",
    ]
    row = Alert.objects.order_by("-id")[0].delivery["hook"]
    assert row["is_over"] is True


def test_a_channel_that_fails_is_told_elsewhere_retried_and_well_again(hook: Hook) -> None:
    clock, told = Clock(), []
    hook.status = 500
    sender = AlertSender([hook.channel()], Rules(), now=clock, tell=lambda *words: told.append(words))
    raise_alert("disk", "critical", "Disk full")
    for _ in range(4):
        sender.turn()
        clock.at += timedelta(minutes=5)
    [(name, error)] = told
    assert (name, bool(error)) == ("hook", True)
    record = Alert.objects.get(key="disk").delivery["hook"]
    assert (record["tries"], record["sent_at"]) == (4, None)
    hook.status = 200
    sender.turn()
    assert told[-1] == ("hook", "")
    assert len(hook.got) == 1
    assert sender.status()[0]["failures"] == 0


def test_the_news_that_a_channel_fails_goes_to_the_others_only(hook: Hook) -> None:
    other = Channel("dead", "info", "json://127.0.0.1:1/x")
    raise_alert("channel:dead", "warning", "Alerts do not reach channel dead")
    sender = AlertSender([other, hook.channel()], Rules())
    sender.turn()
    assert len(hook.got) == 1
    assert sender.status()[0]["failures"] == 0


def test_more_than_an_hour_takes_are_held_and_sent_later(hook: Hook) -> None:
    clock = Clock()
    sender = AlertSender([hook.channel()], Rules(per_hour=2), now=clock)
    for number in range(5):
        raise_alert(f"break:{number}", "warning", f"break {number}")
    sender.turn()
    assert (len(hook.got), sender.status()[0]["held"]) == (2, 3)
    raise_alert("halt", "critical", "halt")
    sender.turn()
    assert hook.titles[-1] == "[MATS critical] halt"
    for _ in range(2):
        clock.at += timedelta(hours=1, seconds=1)
        sender.turn()
    assert len(hook.got) == 6


def test_trouble_that_no_row_can_be_written_for_is_shouted(hook: Hook) -> None:
    sender = AlertSender([hook.channel()], Rules())
    for _ in range(3):
        sender.shout("ledger", "The ledger cannot be written", "disk I/O error")
        sender.turn()
    sender.hush("ledger")
    sender.turn()
    assert hook.titles == ["[MATS critical] The ledger cannot be written"]
    assert not Alert.objects.exists()


def test_no_address_shows_in_logs_rows_or_status(hook: Hook) -> None:
    hook.status = 404
    sender = AlertSender([hook.channel()], Rules())
    raise_alert("disk", "critical", "Disk full")
    root, log = logging.getLogger(), StringIO()
    handler, level = logging.StreamHandler(log), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        sender.turn()
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    kept = json.dumps(sender.status()) + json.dumps(Alert.objects.get(key="disk").delivery)
    assert "not delivered" in log.getvalue()
    assert SECRET not in log.getvalue() + kept
    assert "127.0.0.1" not in log.getvalue() + kept


def test_a_plugin_that_raises_is_a_failure_and_no_more() -> None:
    def _broken(channel: Channel, title: str, text: str, severity: str) -> str:
        raise RuntimeError(f"cannot post to {channel.url}")

    sender = AlertSender([Channel("hook", "info", f"json://x/{SECRET}")], Rules(), transport=_broken)
    raise_alert("disk", "critical", "Disk full")
    sender.turn()
    error = sender.status()[0]["error"]
    assert error.startswith("RuntimeError")
    assert SECRET not in error


def test_an_address_that_nobody_understands_is_told() -> None:
    assert "not understood" in send_by_apprise(Channel("x", "info", "foo://bar"), "t", "b", "info")


def test_the_test_command_tells_of_every_channel(hook: Hook, settings: Any) -> None:
    from dataclasses import replace

    dead = Channel("dead", "critical", f"json://127.0.0.1:1/{SECRET}")
    settings.MATS = replace(settings.MATS, alert_channels=(hook.channel(), dead))
    out = StringIO()
    with pytest.raises(CommandError, match="1 of 2"):
        call_command("send_test_alert", stdout=out)
    assert "hook (from warning): delivered" in out.getvalue()
    assert SECRET not in out.getvalue()
    call_command("send_test_alert", channel="hook", stdout=out)
    assert hook.titles == ["[MATS test] This channel works"] * 2
    with pytest.raises(CommandError, match="no channel nobody"):
        call_command("send_test_alert", channel="nobody")
