"""IB's resets at the speed of a film: a night of them is quiet, a weekend without a login calls a person.

The link's clock is compressed, the gateway's trouble is real: sockets close, logins are refused, fills go untold.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from strategies.exceptions import OrderDeniedError, TransientError
from tests.e2e.engine.harness import DISCRETIONARY, Clock, Rig, position, until
from tests.e2e.faults.truth import assert_books_hold, assert_sent_once, fault, open_again, started
from tests.support.webhook import Webhook
from trading.alert_rules import parse_channels
from trading.engine import core
from trading.engine.ladder import LinkState
from trading.engine.manager import StrategyManager
from trading.engine.resets import NIGHTLY_DEFAULT, WEEKLY_DEFAULT, ResetKind, parse_reset
from trading.models import Alert, EngineEvent

pytestmark = pytest.mark.e2e
NIGHT = datetime(2026, 12, 16, 5, 15, tzinfo=UTC)  # Wednesday, 00:15 in New York
NIGHT_ENDS = NIGHT + timedelta(minutes=90)
LOGIN_ENDS = datetime(2026, 12, 13, 6, 0, tzinfo=UTC)  # Sunday, 01:00 in New York
WINDOW_ENDS = LOGIN_ENDS + timedelta(minutes=45)
QUIET = {LinkState.CONNECTED, LinkState.DEGRADED, LinkState.RESET}


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with Webhook() as made:
        yield made


@pytest.fixture
def mats_settings(mats_settings: Any, hook: Webhook) -> Any:
    """IB's default resets, looked at often; what is graver than a notice goes to the webhook."""
    mats_settings.MATS = dataclasses.replace(
        mats_settings.MATS,
        alert_channels=parse_channels([f"warning,hook=json://127.0.0.1:{hook.port}/alerts"], "MATS_ALERT_URLS"),
    )
    return mats_settings


@pytest.fixture(autouse=True)
def _looked_at_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(core, "ALERTS_EVERY_S", 0.2)


def link_states(engine: StrategyManager, at: datetime, speed: float) -> tuple[Clock, list[LinkState]]:
    """Give the engine IB's resets and a clock that begins at a moment; return it with every state of the link.

    Only what differs from the state before is kept.
    """
    rules = (
        parse_reset(NIGHTLY_DEFAULT, ResetKind.NIGHTLY, "X"),
        parse_reset(WEEKLY_DEFAULT, ResetKind.WEEKLY, "X"),
    )
    clock = Clock(at, speed)
    states: list[LinkState] = []
    note = engine.link._note

    def _noted(before: Any, now: datetime) -> None:
        note(before, now)
        if before.state is not engine.link._link.state:
            states.append(engine.link._link.state)

    engine.link._note = _noted  # type: ignore[method-assign]
    engine.link.rules, engine.link.now = tuple(rule for rule in rules if rule is not None), clock
    engine.link.compared(clock())
    until(lambda: engine.link.link.trouble_since is None, what="the start of the engine is forgotten")
    return clock, states


def alert_words(key: str) -> list[str]:
    """Return what the pages were told of an alert, in order: its severity, or that it is over."""
    told = EngineEvent.objects.filter(kind="alert").order_by("id").values_list("payload", flat=True)
    return ["over" if row["cleared_at"] else str(row["severity"]) for row in told if row["key"] == key]


def refused(rig: Rig, strategy: Any) -> str:
    """Try an order; return the code that it is refused with, empty when it was sent."""
    try:
        rig.place(strategy, "SPY", 1, 1.0)
    except (OrderDeniedError, TransientError) as error:
        return error.code
    return ""


def test_a_night_of_losses_is_waited_out_quietly_and_ends_with_exact_books(rig: Rig, hook: Webhook) -> None:
    rig.strategy("ALPHA")
    engine = started(rig)
    alpha = rig.start(engine, "ALPHA")
    rig.trade(alpha, "SPY", 3)
    ref = rig.place(alpha, "SPY", 100, 1.0).order_ref
    clock, states = link_states(engine, NIGHT - timedelta(seconds=50), 1.0)
    assert refused(rig, alpha) == "reset_pending"
    until(lambda: alert_words("link:reset") == ["info"], what="every page says that orders wait")

    clock.put(NIGHT + timedelta(minutes=1))
    fault(rig, "say 1100", "say 1100", "say 2103", "say 2110")  # as TWS does, again and again
    until(lambda: engine.link.state is LinkState.RESET, what="IB is away, and nobody minds")
    fault(rig, f"fill 2 ref={ref}")
    assert refused(rig, alpha) == "not_connected"
    fault(rig, "restart 300ms")
    fault(rig, f"fill 2 ref={ref}")
    open_again(engine)
    until(lambda: alpha.is_connected and engine.link.hold() is None, what="back and compared: the reset is over")
    rig.trade(alpha, "SPY", 1)

    for minutes, line in ((30, "refuse 400ms"), (50, "outage 200ms back=1101"), (70, "refuse 300ms")):
        clock.put(NIGHT + timedelta(minutes=minutes))
        fault(rig, line, *(["drop"] if line.startswith("refuse") else []))
        until(lambda: engine.link.state is LinkState.RESET, what=f"again away: {line}")
        if line.startswith("refuse"):
            assert refused(rig, alpha) in ("not_connected", "not_reconciled")
        fault(rig, f"fill 2 ref={ref}")
        open_again(engine)
        until(lambda: alpha.is_connected)

    clock.put(NIGHT_ENDS + timedelta(minutes=1))
    until(lambda: engine.link.state is LinkState.CONNECTED)
    rig.trade(alpha, "SPY", -4)
    assert_books_hold(rig, engine)
    assert position("ALPHA", "SPY") == 10
    assert_sent_once(rig)

    assert set(states) <= QUIET, states
    assert Counter(states)[LinkState.RESET] == 4, "one for each loss, none in between"
    assert all(one is not two for one, two in pairwise(states))
    until(lambda: alert_words("link:reset")[-1:] == ["over"], what="told")
    assert alert_words("link:reset") == ["info", "over"], "told once, over once"
    assert not Alert.objects.filter(key="link").exists()
    assert hook.titles == []


def test_a_night_without_end_is_quiet_until_its_window_ends_and_not_a_minute_longer(rig: Rig, hook: Webhook) -> None:
    """Ninety minutes in some three seconds."""
    engine = started(rig)
    clock, states = link_states(engine, NIGHT - timedelta(seconds=50), 1.0)
    fault(rig, "refuse 4h", "drop")
    until(lambda: engine.link.state is not LinkState.CONNECTED)
    clock.put(NIGHT, 1800.0)
    until(lambda: clock() >= NIGHT_ENDS, 30)
    until(lambda: engine.link.state is LinkState.NEEDS_HUMAN, 5)
    assert clock() < NIGHT_ENDS + timedelta(minutes=60)  # looked at every half minute of that night, on a busy machine
    assert states == [LinkState.DOWN, LinkState.RESET, LinkState.NEEDS_HUMAN]
    alert = until(lambda: Alert.objects.filter(key="link").first())
    assert (alert.severity, "after the nightly reset" in alert.title) == ("critical", True)
    fault(rig, "clear")
    open_again(engine)
    assert_books_hold(rig, engine)


def test_a_weekend_without_a_login_calls_a_person_once_and_ends_with_the_login(rig: Rig, hook: Webhook) -> None:
    """Four hours of refused logins in some five seconds."""
    rig.strategy("ALPHA")
    engine = started(rig)
    alpha = rig.start(engine, "ALPHA")
    rig.trade(alpha, "SPY", 3)
    ref = rig.place(alpha, "SPY", 100, 1.0).order_ref
    clock, states = link_states(engine, LOGIN_ENDS, 1.0)
    fault(rig, "refuse 4h", "drop")
    until(lambda: engine.link.state is LinkState.RESET)
    fault(rig, f"fill 2 ref={ref}")
    assert engine.link.hold() is not None
    assert hook.titles == []
    assert not Alert.objects.filter(key="link").exists()

    clock.put(LOGIN_ENDS, 3000.0)
    until(lambda: engine.link.state is LinkState.NEEDS_HUMAN, 15)
    assert clock() >= WINDOW_ENDS
    alert = until(lambda: Alert.objects.filter(key="link").first(), what="the alert")
    assert alert.severity == "critical"
    assert "still down after the weekly reset" in alert.title
    assert "log in to TWS or the gateway" in alert.text
    title = f"[MATS critical] {alert.title}"
    until(lambda: hook.titles == [title], 20, "a person is called")
    assert refused(rig, alpha) == "not_connected"
    tries = engine.session.connection.message  # type: ignore[union-attr]
    assert "Next try" in tries
    until(lambda: clock() >= LOGIN_ENDS + timedelta(hours=4), 30)
    assert refused(rig, alpha) == "not_connected"
    assert states == [LinkState.RESET, LinkState.NEEDS_HUMAN], "it stays so, whatever is tried"
    assert alert_words("link") == ["critical"]
    assert hook.titles == [title]

    clock.put(LOGIN_ENDS + timedelta(hours=4))
    fault(rig, "clear")
    open_again(engine)
    until(lambda: alpha.is_connected and engine.link.hold() is None, what="nobody has to do more than log in")
    rig.trade(alpha, "SPY", -1)
    assert_books_hold(rig, engine)
    assert position("ALPHA", "SPY") == 4
    assert position(DISCRETIONARY, "SPY") == 0
    assert_sent_once(rig)
    clock.jump(timedelta(minutes=1))
    until(lambda: alert_words("link")[-1:] == ["over"], what="the alert ends with it")
    until(lambda: len(hook.titles) > 1, 20, "the person hears it too")
    assert hook.titles == [title, title.replace("critical", "over")]
    assert Alert.objects.filter(key="link").count() == 1
