"""Whose margin the account's is, and what a strategy could bind: asked of the gateway before it starts or grows."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import Group, User

from portfolio.models import AccountValue
from strategies.exceptions import ConflictError
from strategies.models import DISCRETIONARY, AuditEntry, Strategy
from strategies.services import save_strategy, set_active
from tests.e2e.engine.harness import IDLE, Rig, position, until
from tests.e2e.engine.test_margin import equity, limit
from trading import growth, risk_queries
from trading.engine.manager import StrategyManager
from trading.models import StrategyRun

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

SPY, TLT = 756733, 15547841
TRADER = (
    IDLE.replace("from strategies.base", "from strategies.params import BaseParams\nfrom strategies.base")
    + """
class Params(BaseParams):
    universe: str = "SPY,TLT"
"""
)


def shares(rig: Rig, engine: StrategyManager) -> dict[str, Any]:
    """Read the margin now and return what pages and API show of it."""
    assert rig.result(rig.do("read_margin"))["known"] is True
    engine.message_queue.submit(lambda: None, "barrier").result(10)
    return risk_queries.margin_shares()


def _is_reported(tag: str, figure: Decimal) -> bool:
    """Whether IB's figure of the account is this one, but for what prices moved meanwhile."""
    reported = AccountValue.objects.get(tag=tag, currency="USD").value
    return abs(Decimal(reported) - figure) < figure / 1000


def parts(shown: dict[str, Any], name: str) -> dict[str, Decimal]:
    return {row["owner"]: Decimal(row[name]) for row in shown["owners"]}


def test_parts_of_the_margin_add_up_to_ibs_figure_to_the_cent(rig: Rig) -> None:
    for symbol in ("ALPHA", "BETA", "IDLE"):
        rig.strategy(symbol)
    engine = rig.engine()
    alpha, beta = rig.start(engine, "ALPHA"), rig.start(engine, "BETA")
    rig.trade(alpha, "SPY", 30)
    rig.trade(beta, "SPY", -10)
    rig.trade(beta, "TLT", 37)
    rig.trade(alpha, "QQQ", 11)
    rig.gateway.fault("hand TLT 13")
    until(lambda: position(DISCRETIONARY, "TLT") == 13)
    shown = shares(rig, engine)
    for tag, name in (("InitMarginReq", "initial"), ("MaintMarginReq", "maintenance")):
        found = parts(shown, name)
        assert sum(found.values()) == Decimal(shown[name])
        assert shown[name] is not None
        assert Decimal(shown[name]) > 0
        until(partial(_is_reported, tag, Decimal(shown[name])), what="IB's account figure is the same")
        assert found["IDLE"] == 0
        assert min(found["ALPHA"], found["BETA"], found[DISCRETIONARY]) > 0
        # BETA's short 10 SPY relieve ALPHA's 30 and bind nothing; of 50 TLT it holds 37, Discretionary 13
        assert found["BETA"] / found[DISCRETIONARY] == pytest.approx(Decimal(37) / Decimal(13), rel=Decimal("0.001"))
    held = {row["symbol"]: row["quantity"] for row in shown["contracts"]}
    assert held == {"SPY": "20", "TLT": "50", "QQQ": "11"}


def test_a_position_that_ib_does_not_answer_for_leaves_parts_unknown_and_not_zero(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trading.engine.margin.ANSWER_S", 0.5)
    rig.strategy("ALPHA")
    rig.strategy("IDLE")
    engine = rig.engine()
    rig.trade(rig.start(engine, "ALPHA"), "SPY", 30)
    rig.gateway.fault("lose openOrder client=0 count=all")
    assert rig.result(rig.do("read_margin"))["known"] is False
    engine.message_queue.submit(lambda: None, "barrier").result(10)
    shown = risk_queries.margin_shares()
    own = {row["owner"]: row["initial"] for row in shown["owners"]}
    assert own == {"ALPHA": None, DISCRETIONARY: None, "IDLE": "0"}
    assert "SPY" in shown["problem"]
    rig.gateway.fault("clear")
    whole = shares(rig, engine)
    assert parts(whole, "initial")["ALPHA"] > 0
    rig.gateway.fault("lose openOrder client=0 count=all")
    assert rig.result(rig.do("read_margin"))["known"] is False
    engine.message_queue.submit(lambda: None, "barrier").result(10)
    shown = risk_queries.margin_shares()
    assert (shown["at"], shown["owners"]) == (whole["at"], whole["owners"])  # what was whole stands, and says so
    assert "did not answer" in shown["problem"]


def test_readings_follow_positions_by_themselves(rig: Rig, mats_settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trading.engine.margin_shares.PAUSE_S", 0.2)
    monkeypatch.setattr("trading.engine.core.MARGIN_LOOK_S", 0.1)
    mats_settings.MATS = dataclasses.replace(mats_settings.MATS, margin_every_s=300)
    rig.strategy("ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    rig.trade(alpha, "SPY", 30)

    def _initial() -> Decimal:
        return sum((Decimal(row["initial"] or 0) for row in risk_queries.margin_shares()["owners"]), Decimal(0))

    first = until(_initial, what="the first reading")
    rig.trade(alpha, "SPY", 30)
    until(lambda: _initial() > first * Decimal("1.5"), what="the next one")


def test_a_start_says_what_ib_answered_for_the_universe_in_equal_parts(rig: Rig) -> None:
    rig.strategy("ALPHA", TRADER, weight="0.2")
    engine = rig.engine()
    result = rig.result(rig.do("start_strategy", symbol="ALPHA"))
    plan = result["margin"]
    assert (plan["known"], plan["basis"], plan["refused"], plan["weight"]) == (True, "universe", None, "0.2")
    assert [line["symbol"] for line in plan["positions"]] == ["SPY", "TLT"]
    part = equity(engine) * Decimal("0.1")
    for line in plan["positions"]:
        assert part * Decimal("0.98") < Decimal(line["value"]) <= part * Decimal("1.01")
        assert Decimal(line["initial_margin"]) == pytest.approx(Decimal(line["value"]) / 2, rel=Decimal("0.02"))
    added = Decimal(plan["after"]["initial_margin"]) - Decimal(plan["before"]["initial_margin"])
    assert added == pytest.approx(
        sum(Decimal(line["initial_margin"]) for line in plan["positions"]), abs=Decimal("0.02")
    )
    assert "margin cushion would be" in result["note"]
    assert not rig.gateway.call(lambda: list(rig.gateway.venue.open_orders()))


def test_a_start_beyond_a_limit_is_refused_by_name_and_passes_only_on_somebodys_word(rig: Rig) -> None:
    rig.strategy("ALPHA", TRADER, weight="0.4")
    engine = rig.engine()
    limit(engine, "margin_cushion", "0.95")
    command = rig.do("start_strategy", symbol="ALPHA")
    assert (command.state, command.error_code) == ("failed", "margin_cushion")
    assert command.result is not None
    refused = command.result["margin"]["refused"]
    assert (refused["name"], refused["limit"], refused["source"]) == ("margin_cushion", "0.95", "account")
    assert Decimal(refused["value"]) < Decimal("0.95")
    assert not StrategyRun.objects.exclude(state="stopped").exists()
    assert rig.do("start_strategy", symbol="ALPHA", accept_margin=True).error_code == "bad_arguments"
    started = rig.do("start_strategy", symbol="ALPHA", accept_margin=True, reason="for an hour, I watch it")
    assert rig.result(started)["margin"]["refused"]["name"] == "margin_cushion"
    entry = AuditEntry.objects.filter(action="command.start_strategy", subject="ALPHA").order_by("id").last()
    assert entry is not None
    assert entry.reason == "for an hour, I watch it"
    assert entry.after is not None
    assert entry.after["args"]["accept_margin"] is True


def test_what_cannot_be_asked_is_said_and_not_passed_off_as_good(rig: Rig) -> None:
    rig.strategy("ALPHA")
    rig.engine()
    result = rig.result(rig.do("start_strategy", symbol="ALPHA"))
    assert (result["margin"]["known"], result["margin"]["basis"]) == (False, "nothing")
    assert "was not found out: It holds nothing" in result["note"]


def test_two_starts_do_not_get_one_room(rig: Rig) -> None:
    for symbol in ("ALPHA", "BETA"):
        rig.strategy(symbol, TRADER, weight="0.4", active=True)
    engine = rig.engine(autostart=False)
    limit(engine, "margin_cushion", "0.85")  # each alone leaves 0.9, both 0.8
    result = rig.result(rig.do("start_all"))
    outcomes = result["strategies"]
    assert result["note"].startswith("BETA was not started: BETA at 40.0% would leave a margin cushion")
    assert [outcomes[symbol]["started"] for symbol in ("ALPHA", "BETA")] == [True, False]
    assert outcomes["BETA"]["error_code"] == "margin_cushion"
    assert rig.do("stop_strategy", symbol="ALPHA").state == "done"
    assert rig.do("start_strategy", symbol="BETA").state == "done"


def test_room_is_used_up_by_what_is_bought_with_it(rig: Rig) -> None:
    rig.strategy("ALPHA", TRADER, weight="0.1")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    rig.strategy("BETA", TRADER, weight="0.1")
    before = Decimal(rig.result(rig.do("margin_plan", symbol="BETA"))["promised"]["initial_margin"])
    assert before > 0
    rig.trade(alpha, "SPY", int(equity(engine) * Decimal("0.05") / engine.risk.unit_value(SPY, None)))
    until(lambda: position("ALPHA", "SPY") > 0)
    after = Decimal(rig.result(rig.do("margin_plan", symbol="BETA"))["promised"]["initial_margin"])
    assert after == pytest.approx(before / 2, rel=Decimal("0.1"))


def test_a_plan_scales_what_is_held_and_what_was_held_last(rig: Rig) -> None:
    rig.strategy("ALPHA", weight="0.1")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    price = engine.risk.unit_value
    rig.trade(alpha, "SPY", -20)
    until(lambda: position("ALPHA", "SPY") == -20)
    plan = rig.result(rig.do("margin_plan", symbol="ALPHA", weight="0.2"))
    [line] = plan["positions"]
    whole = equity(engine) * Decimal("0.2") / price(SPY, None)
    assert (plan["basis"], plan["known"]) == ("holdings", True)
    assert Decimal(line["quantity"]) == pytest.approx(20 - whole, abs=Decimal(3))  # more of the same side
    rig.trade(alpha, "SPY", 20)
    until(lambda: position("ALPHA", "SPY") == 0)
    plan = rig.result(rig.do("margin_plan", symbol="ALPHA"))
    [line] = plan["positions"]
    assert plan["basis"] == "last held"
    assert Decimal(line["quantity"]) == pytest.approx(-whole / 2, abs=Decimal(3))  # it was short


def admin_user() -> User:
    user = User.objects.create_user("anna")
    user.groups.add(Group.objects.get(name="admin"))
    return User.objects.get(pk=user.pk)


def test_a_higher_weight_is_asked_about_and_refused_where_it_breaks_a_limit(rig: Rig) -> None:
    rig.strategy("ALPHA", TRADER, weight="0.1")
    engine = rig.engine()
    saved = save_strategy({"symbol": "ALPHA", "target_weight": Decimal("0.2")}, None, source="api")
    assert "could bind" in saved.notices[0]
    limit(engine, "margin_cushion", "0.85")
    with pytest.raises(ConflictError) as caught:
        save_strategy({"symbol": "ALPHA", "target_weight": Decimal("0.8")}, None, source="api")
    assert (caught.value.code, caught.value.fields["limit"], caught.value.fields["source"]) == (
        "margin_cushion",
        "0.85",
        "account",
    )
    assert Strategy.objects.get(symbol="ALPHA").target_weight == Decimal("0.2")
    assert save_strategy({"symbol": "ALPHA", "target_weight": Decimal("0.05")}, None, source="api").notices == ()
    anna = admin_user()
    fields = {"symbol": "ALPHA", "target_weight": Decimal("0.8")}
    save_strategy(fields, anna, source="page", override="agreed with the desk")
    entry = AuditEntry.objects.get(action="risk.margin_overridden")
    assert entry.after is not None
    assert (entry.actor, entry.reason, entry.after["name"]) == ("anna", "agreed with the desk", "margin_cushion")


def test_an_activation_is_asked_about_too_and_an_engine_that_is_slow_is_not_waited_for_for_ever(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.strategy("ALPHA", TRADER, weight="0.8")
    assert "not running" in set_active("ALPHA", True, None, source="api").notices[0]
    set_active("ALPHA", False, None, source="api")
    engine = rig.engine(autostart=False)
    limit(engine, "margin_cushion", "0.85")
    with pytest.raises(ConflictError, match="would leave a margin cushion"):
        set_active("ALPHA", True, None, source="api")
    monkeypatch.setattr(growth, "WAIT_S", 0.3)
    rig.gateway.fault("lag 2 openOrder client=0 count=all")
    engine.risk.margins._answers.clear()
    assert "IB was not asked" in set_active("ALPHA", True, None, source="api").notices[0]


def test_with_the_engine_starts_what_holds_something_and_not_what_the_account_would_not_bear(rig: Rig) -> None:
    rig.strategy("ALPHA", TRADER, weight="0.4", active=True)
    rig.strategy("BETA", TRADER, weight="0.4", active=True)
    first = rig.engine(autostart=False)
    rig.trade(rig.start(first, "ALPHA"), "SPY", 1)
    until(lambda: position("ALPHA", "SPY") == 1)
    limit(first, "margin_cushion", "0.95")
    first.cleanup(1.0)
    rig.engine()
    until(lambda: StrategyRun.objects.filter(symbol="ALPHA", state="running").exists(), what="it looks after its share")
    assert not StrategyRun.objects.filter(symbol="BETA").exclude(state="stopped").exists()
