"""Alerts on their way to a real webhook on this machine."""

from __future__ import annotations

import contextlib
import html
import importlib
import json
import logging
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.support.webhook import Webhook
from trading.alert_rules import Channel, QuietHours, Rules
from trading.alerts import acknowledge, clear_alert, raise_alert
from trading.channels import AlertSender, send_by_apprise
from trading.models import Alert

pytestmark = pytest.mark.django_db
SECRET = "hush-hush-token"


class Hook(Webhook):
    """A webhook with an address that must not show."""

    def channel(self, name: str = "hook", threshold: str = "warning") -> Channel:
        return Channel(name, threshold, f"json://127.0.0.1:{self.port}/{SECRET}")


class Clock:
    def __init__(self) -> None:
        self.at = datetime(2026, 12, 15, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as made:
        yield made


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
    assert hook.titles == ["[MATS critical] Disk full"]
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
    for _ in range(2):
        sender.turn()
    assert hook.titles == ["[MATS critical] The ledger cannot be written", "[MATS over] The ledger cannot be written"]
    assert not Alert.objects.exists()


def test_trouble_without_a_row_that_was_over_before_it_could_be_sent_is_told_too(hook: Hook) -> None:
    clock = Clock()
    sender = AlertSender([hook.channel()], Rules(), now=clock)
    hook.status = 500
    sender.shout("ledger", "The ledger cannot be written", "disk I/O error")
    sender.turn()
    sender.hush("ledger")
    hook.status = 200
    clock.at += timedelta(minutes=10)
    for _ in range(2):
        sender.turn()
    assert hook.titles == ["[MATS critical, over] The ledger cannot be written"]


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


def test_a_grave_alert_that_was_over_before_it_could_be_sent_is_told_once(hook: Hook) -> None:
    clock = Clock()
    sender = AlertSender([hook.channel()], Rules(), now=clock)
    hook.status = 500
    raise_alert("overfill", "critical", "A filled 120 of 100", now=clock.at)
    raise_alert("store", "warning", "The research store needs room", now=clock.at)
    sender.turn()
    clock.at += timedelta(seconds=6)
    sender.turn()  # the other one has its try
    for key in ("overfill", "store"):
        clear_alert(key, clock.at)
    raise_alert("blink", "critical", "Came and went between two turns", now=clock.at)
    clear_alert("blink", clock.at)
    hook.status = 200
    clock.at += timedelta(hours=3)
    for _ in range(2):
        sender.turn()
    AlertSender([hook.channel()], Rules(), now=clock).turn()  # another engine later
    assert hook.titles == [
        "[MATS critical, over] A filled 120 of 100",
        "[MATS warning, over] The research store needs room",
        "[MATS critical, over] Came and went between two turns",
    ]
    assert "could not be sent before" in hook.got[0]["message"]


def test_what_a_person_saw_or_what_waited_for_the_morning_is_not_told_when_it_is_over(hook: Hook) -> None:
    clock = Clock()
    quiet = Rules(quiet=QuietHours(time(11), time(13)))
    sender = AlertSender([hook.channel()], quiet, now=clock)
    seen = raise_alert("overfill", "critical", "A filled 120 of 100", now=clock.at)
    acknowledge(seen.pk, "boss")
    raise_alert("store", "warning", "The research store needs room", now=clock.at)
    for key in ("overfill", "store"):
        clear_alert(key, clock.at)
    clock.at += timedelta(hours=2)
    sender.turn()
    assert hook.titles == []


def test_a_message_that_its_service_refuses_holds_no_other_up(hook: Hook) -> None:
    clock, refused = Clock(), []

    def _picky(channel: Channel, title: str, text: str, severity: str) -> str:
        if "poison" in title:
            refused.append(title)
            return "too long"
        return send_by_apprise(channel, title, text, severity)

    sender = AlertSender([hook.channel()], Rules(), now=clock, transport=_picky)
    raise_alert("first", "critical", "poison", now=clock.at)
    raise_alert("second", "warning", "well", now=clock.at)
    sender.turn()
    clock.at += timedelta(seconds=6)
    sender.turn()
    assert (refused, hook.titles) == (["[MATS critical] poison"] * 2, ["[MATS warning] well"])


def test_a_service_that_fails_is_asked_once_a_turn_and_all_is_sent_when_it_is_well(hook: Hook) -> None:
    clock, asked = Clock(), []

    def _asked(channel: Channel, title: str, text: str, severity: str) -> str:
        asked.append(title)
        return send_by_apprise(channel, title, text, severity)

    sender = AlertSender([hook.channel()], Rules(), now=clock, transport=_asked)
    hook.status = 503
    for number in range(12):
        raise_alert(f"break:{number}", "critical", f"break {number}", now=clock.at)
    sender.turn()
    assert len(asked) == 1
    clock.at += timedelta(seconds=6)
    sender.turn()
    assert len(set(asked)) == 2
    hook.status = 200
    clock.at += timedelta(minutes=6)
    sender.turn()
    assert sorted(hook.titles) == sorted(f"[MATS critical] break {number}" for number in range(12))


def test_channels_that_note_what_they_sent_at_once_keep_each_others_notes(hook: Hook) -> None:
    channels = [hook.channel(f"hook{number}") for number in range(4)]
    sender = AlertSender(channels, Rules())
    for number in range(5):
        raise_alert(f"break:{number}", "warning", f"break {number}")
    for channel in channels:
        sender.turn_of(channel)
    for alert in Alert.objects.all():
        assert {name for name, row in alert.delivery.items() if row["sent_at"]} == {one.name for one in channels}


ADDRESSES = {
    "form": "form://127.0.0.1:{port}/alerts",
    "xml": "xml://127.0.0.1:{port}/alerts",
    "ntfy": "ntfy://127.0.0.1:{port}/alerts",
    "gotify": "gotify://127.0.0.1:{port}/hushhushtoken12",
    "mattermost": "mmost://127.0.0.1:{port}/hushhushtoken12",
    "telegram": "tgram://123456789:AAhushhushtokenhushhushtokenhushhu/987654321/?format=text",
    "discord": "discord://123456789012345678/hush-hush-token-hush-hush-token-hush-hush-token-hush",
}
FIXED_HOSTS = {
    "telegram": ("telegram", "NotifyTelegram", "http://127.0.0.1:{port}/bot"),
    "discord": ("discord", "NotifyDiscord", "http://127.0.0.1:{port}/api/webhooks"),
}


@pytest.fixture
def fixed_hosts(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the services whose host is fixed in Apprise post to this machine instead."""
    for module, name, address in FIXED_HOSTS.values():
        plugin = getattr(importlib.import_module(f"apprise.plugins.{module}"), name)
        monkeypatch.setattr(plugin, "notify_url", address.format(port=hook.port))
        monkeypatch.setattr(plugin, "request_rate_per_sec", 0)


@pytest.mark.parametrize("service", sorted(ADDRESSES))
def test_services_carry_title_and_text_and_tell_when_they_are_refused(
    hook: Hook, fixed_hosts: None, service: str
) -> None:
    channel = Channel(service, "info", ADDRESSES[service].format(port=hook.port))
    hook.status = 403
    error = send_by_apprise(channel, "[MATS critical] Disk full", "Make room; §4.", "critical")
    assert error
    assert "hush" not in error
    assert hook.raw == []
    hook.status = 200
    assert send_by_apprise(channel, "[MATS critical] Disk full", "Make room; §4.", "critical") == ""
    bodies = "".join(_readable(body) for _, _, body in hook.raw)
    assert "[MATS critical] Disk full" in bodies
    assert "Make room; §4." in bodies


def _readable(body: bytes) -> str:
    """Return a body without the escapes of JSON, of forms and of XML."""
    text = body.decode()
    with contextlib.suppress(json.JSONDecodeError):
        text = json.dumps(json.loads(text), ensure_ascii=False)
    return html.unescape(urllib.parse.unquote_plus(text))
