"""From what happens in the engine to what a person reads: real mail, real posts, over servers of this machine.

What cannot be reached here: the hosts of Telegram and Discord, which are fixed in Apprise. What is posted to them is
tested in ``tests/integration/test_channels.py``.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.engine.harness import Clock, Rig, until
from tests.e2e.faults.truth import OFTEN
from tests.support.mail_server import PASSWORD, USER, MailServer
from tests.support.webhook import Webhook
from trading import channels, risk_control
from trading.alert_rules import QuietHours, parse_channels
from trading.alerts import acknowledge_key
from trading.engine import core
from trading.engine.manager import StrategyManager
from trading.models import Alert, EngineEvent, EngineLease

pytestmark = pytest.mark.e2e
TOLD_WITHIN_S = 10.0  # alone on a machine some 3: channels have a turn every 2
OVERFILLED = "A takes no orders"
NO_FEE = "The commission of 1 execution of the day does not come"


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn of each channel five times a second."""
    monkeypatch.setattr(core, "ALERTS_EVERY_S", 0.2)


def now_at(speed: float) -> Clock:
    """Return a clock that begins now."""
    return Clock(datetime.now(UTC), speed)


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with MailServer() as made:
        yield made


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with Webhook() as made:
        yield made


@pytest.fixture
def mats_settings(mats_settings: Any, tmp_path: Path, mail: MailServer, hook: Webhook) -> Any:
    """Grave alerts go by mail, all to the webhook; a home of its own, because a halt would reach other tests."""
    home = tmp_path / "home"
    home.mkdir()
    words = [f"critical,mail={mail.url()}", f"info,hook=json://127.0.0.1:{hook.port}/alerts"]
    mats_settings.MATS = dataclasses.replace(
        mats_settings.MATS, mats_home=home, alert_channels=parse_channels(words, "MATS_ALERT_URLS")
    )
    return mats_settings


def started(rig: Rig, clock: Callable[[], datetime] | None = None) -> StrategyManager:
    """Start an engine that compares often; ``clock`` is the sender's."""
    engine = StrategyManager()
    engine.autostart = False
    engine.stop_grace_s = 5.0
    engine.session.times = OFTEN
    if clock is not None:
        engine.alert_sender._now = clock
    rig.engines.append(engine)
    engine.start()
    assert engine.gate.wait_open(20.0), engine.state_message
    return engine


def overfill(rig: Rig, engine: StrategyManager) -> str:
    """Have an order of strategy A filled beyond its size; return its reference."""
    rig.strategy("A")
    ticket = rig.trade(rig.start(engine, "A"), "SPY", 10)
    rig.gateway.fault(f"fill 3 ref={ticket.order_ref}")
    return str(ticket.order_ref)


def channel_row(engine: StrategyManager, name: str) -> dict[str, Any]:
    return next(row for row in engine.heartbeat_status()["channels"] if row["name"] == name)


def test_a_halt_is_read_by_mail_and_posted_soon_once_and_its_end_too(rig: Rig, mail: MailServer, hook: Webhook) -> None:
    engine = started(rig)
    began = time.monotonic()
    risk_control.halt_file().write("looks wrong", "otto")
    title = "[MATS critical] The account takes no orders"
    until(lambda: title in mail.subjects and title in hook.titles, TOLD_WITHIN_S, "both say it")
    print(f"halt told after {time.monotonic() - began:.1f} s")
    [message] = mail.messages
    assert (message["From"].addresses[0].addr_spec, message["To"].addresses[0].addr_spec) == (
        "mats@example.org",
        "desk@example.org",
    )
    body = message.get_body(("plain", "html"))
    assert body is not None
    assert "looks wrong" in body.get_content()
    post = next(post for post in hook.got if post["title"] == title)
    assert "looks wrong" in post["message"]
    assert post["type"] == "failure"

    for _ in range(3):  # the same again, by another way
        risk_control.halt("", reason="still looks wrong", actor="otto", source="cli")
    until(lambda: Alert.objects.get(key="risk:account").times >= 4, what="it was raised again and again")
    risk_control.release("", reason="was nothing", actor="anna", source="cli")
    over = "[MATS over] The account takes no orders"
    until(lambda: over in mail.subjects and over in hook.titles, TOLD_WITHIN_S, "both say that it is over")
    assert mail.subjects == [title, over]
    assert [one for one in hook.titles if "account" in one] == [title, over]
    assert not engine.gate.halted


@pytest.mark.usefixtures("often")
def test_each_channel_gets_what_is_grave_enough_for_it(rig: Rig, mail: MailServer, hook: Webhook) -> None:
    engine = started(rig)
    rig.gateway.fault("lose commissionReport count=all")
    overfill(rig, engine)
    until(lambda: f"[MATS critical] {OVERFILLED}" in mail.subjects, TOLD_WITHIN_S, "the grave one by mail")
    until(lambda: any(title.startswith("[MATS warning] The commission") for title in hook.titles), 30, "the other one")
    until(lambda: f"[MATS critical] {OVERFILLED}" in hook.titles, TOLD_WITHIN_S)
    assert mail.subjects == [f"[MATS critical] {OVERFILLED}"]
    post = next(post for post in hook.got if post["title"].endswith(OVERFILLED))
    assert "overfilled: 13 of 10 SPY" in post["message"]
    assert "Strategy A." in post["message"]


@pytest.mark.usefixtures("often")
def test_in_quiet_hours_only_the_grave_is_sent_and_the_rest_in_the_morning_if_it_still_stands(
    rig: Rig, mats_settings: Any, mail: MailServer, hook: Webhook
) -> None:
    now, hour = datetime.now(UTC), timedelta(hours=1)
    quiet = QuietHours((now - hour).time(), (now + hour).time())
    mats_settings.MATS = dataclasses.replace(mats_settings.MATS, alert_quiet=quiet)
    clock = now_at(1.0)
    engine = started(rig, clock)
    rig.gateway.fault("lose commissionReport count=all")
    overfill(rig, engine)
    until(lambda: Alert.objects.filter(severity="warning", cleared_at=None).exists(), 30, "a warning stands")
    until(lambda: f"[MATS critical] {OVERFILLED}" in hook.titles, TOLD_WITHIN_S, "the grave one is sent")
    turns = counted_turns(engine)
    until(lambda: len(turns) >= 5, 20, "both channels had their turns")
    assert hook.titles == [f"[MATS critical] {OVERFILLED}"]
    clock.jump(2 * hour)
    until(lambda: any(title.startswith("[MATS warning] The commission") for title in hook.titles), TOLD_WITHIN_S)
    assert mail.subjects == [f"[MATS critical] {OVERFILLED}"]


def counted_turns(engine: StrategyManager) -> list[int]:
    """Return a list that grows with every turn of a channel from now on."""
    turns: list[int] = []
    look = engine.alert_sender._over

    def _counted() -> list[Alert]:
        turns.append(1)
        return look()

    engine.alert_sender._over = _counted  # type: ignore[method-assign]
    return turns


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("where", ["login", "content"])
def test_mail_that_is_refused_is_tried_again_told_elsewhere_and_comes_once_when_it_is_taken(
    rig: Rig, mail: MailServer, hook: Webhook, where: str
) -> None:
    log, root = StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(log), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        engine = started(rig, now_at(60.0))
        mail.refuse = where
        overfill(rig, engine)
        until(lambda: f"[MATS critical] {OVERFILLED}" in hook.titles, TOLD_WITHIN_S, "the other channel has it")
        failing = "[MATS warning] Alerts do not reach channel mail"
        until(lambda: failing in hook.titles, 30, "that mail fails is told by the other")
        assert mail.messages == []
        assert mail.refused >= channels.FAILURES_TOLD
        row = channel_row(engine, "mail")
        assert row["failures"] >= channels.FAILURES_TOLD
        assert row["error"]
        kept = Alert.objects.get(key="risk:A").delivery["mail"]
        assert kept["tries"] >= channels.FAILURES_TOLD
        assert kept["sent_at"] is None
        until(lambda: "mail" in str(EngineLease.objects.get().status["channels"]), what="the page shows it")

        mail.refuse = ""
        until(lambda: mail.subjects, 40, "mail is taken again")
        until(lambda: "[MATS over] Alerts do not reach channel mail" in hook.titles, 20, "all well")
        assert mail.subjects == [f"[MATS critical] {OVERFILLED}"]
        assert hook.titles.count(f"[MATS critical] {OVERFILLED}") == 1
        until(lambda: channel_row(engine, "mail")["failures"] == 0)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    seen = log.getvalue() + str(engine.heartbeat_status()) + str(list(Alert.objects.values()))
    seen += str(list(EngineEvent.objects.values()))
    assert "not delivered" in seen
    assert PASSWORD not in seen
    assert f"{USER}:" not in seen


def test_a_mail_server_that_says_nothing_holds_no_other_channel_up(
    rig: Rig, mail: MailServer, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "SEND_TIMEOUT_S", 12.0)
    engine = started(rig)
    mail.refuse = "silence"
    overfill(rig, engine)
    until(lambda: mail.refused, TOLD_WITHIN_S, "mail hangs from now on")
    began = time.monotonic()
    risk_control.halt_file().write("looks wrong", "otto")
    wanted = {f"[MATS critical] {OVERFILLED}", "[MATS critical] The account takes no orders"}
    until(lambda: wanted <= set(hook.titles), TOLD_WITHIN_S, "while mail still hangs")
    print(f"told beside a hung mail server after {time.monotonic() - began:.1f} s")
    assert mail.messages == []
    mail.hang_up()


@pytest.mark.usefixtures("often")
def test_what_no_server_took_is_kept_over_a_restart_and_told_even_though_it_is_over(
    rig: Rig, mail: MailServer, hook: Webhook
) -> None:
    mail.refuse, hook.status = "greeting", 503
    first = started(rig)
    overfill(rig, first)
    risk_control.halt("", reason="looks wrong", actor="otto", source="cli")
    until(lambda: mail.refused and hook.refused, TOLD_WITHIN_S, "both refuse")
    until(lambda: all(Alert.objects.get(key="risk:A").delivery.get(name) for name in ("mail", "hook")), 30, "on record")
    risk_control.release("A", reason="seen to", actor="anna", source="cli")
    first.cleanup(1.0)

    mail.refuse, hook.status = "", 200
    started(rig, now_at(20.0))
    wanted = {f"[MATS critical, over] {OVERFILLED}", "[MATS critical] The account takes no orders"}
    until(lambda: wanted <= set(mail.subjects) and wanted <= set(hook.titles), 30, "all of it, late")
    assert len(mail.subjects) == len(set(mail.subjects))
    assert len(hook.titles) == len(set(hook.titles))


def mail_noted() -> str:
    """Return when the row of A's alert says that mail had it; empty before."""
    alert = Alert.objects.filter(key="risk:A").first()
    return "" if alert is None else str(alert.delivery.get("mail", {}).get("sent_at") or "")


@pytest.mark.usefixtures("often")
def test_a_grave_alert_is_repeated_until_somebody_has_seen_it(rig: Rig, mail: MailServer) -> None:
    clock = now_at(1.0)
    engine = started(rig, clock)
    overfill(rig, engine)
    title = f"[MATS critical] {OVERFILLED}"
    first = until(mail_noted, TOLD_WITHIN_S, "it was sent, and that is on record")
    assert mail.subjects == [title]
    clock.jump(timedelta(hours=5))
    until(lambda: mail_noted() > first, TOLD_WITHIN_S, "again after four hours")
    assert mail.subjects == [title] * 2
    acknowledge_key("risk:A", "anna")
    clock.jump(timedelta(hours=5))
    turns = counted_turns(engine)
    until(lambda: len(turns) >= 5, 20, "both channels had their turns")
    assert mail.subjects == [title] * 2
