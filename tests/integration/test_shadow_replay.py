"""A live day out of ledger and ArcticDB, replayed by command and job: exit codes, alerts, what is no longer known."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from django.core.management import CommandError, call_command

from portfolio.arctic.client import get_ac
from portfolio.models import Account, EquitySnapshot, Instrument, Movement, MovementKind
from strategies.bar_series import moment_of
from strategies.services import save_strategy
from tests.support.backtests import minutes
from trading import job_run, work_services
from trading.models import Alert, EngineEvent, Order, OrderEvent
from trading.work_models import Job, JobKind, JobState

pytestmark = pytest.mark.django_db

DAY = date(2024, 1, 3)
OPEN = datetime(2024, 1, 3, 14, 30, tzinfo=UTC)
NAME, CON_ID = "SHDW", 770_001
PARAMS = {"symbols": [NAME], "size": 10, "min_quality": 0}
CODE = """
from strategies.reactive import ReactiveStrategy, Signal, SignalAction


class TurnStrategy(ReactiveStrategy):
    warm_up_bars = 50
    PARAMS = {}

    def get_subscriptions(self):
        return [(symbol, "5m") for symbol in self.config["symbols"]]

    def on_bars(self, symbol, interval):
        bars = self.context.get_bars(symbol, interval)
        minute = self.context.get_current_time().strftime("%H:%M")
        if minute == "15:30":
            return [Signal(symbol, SignalAction.BUY, self.config["size"])]
        return [Signal(symbol, SignalAction.CLOSE)] if minute == "16:30" else None


PARAMS = {"symbols": ["SHDW"], "size": 10, "min_quality": 0}
"""


@pytest.fixture
def folder(settings: Any, tmp_path: Path) -> Path:
    settings.MATS = dataclasses.replace(settings.MATS, strategy_path=(tmp_path,))
    (tmp_path / "turn.py").write_text(CODE)
    return tmp_path


def write_bars(leave_out: slice = slice(0), con_id: int = CON_ID) -> None:
    """Store two sessions of minutes, without some rows; ``con_id`` 0 names no contract."""
    source = np.random.default_rng(5)
    closes = np.round(50 + np.cumsum(source.normal(0, 0.02, 780)), 2).tolist()
    starts, columns = minutes(NAME, [(c, c + 0.02, c - 0.02, c) for c in closes], date(2024, 1, 2)).whole()
    names = ("open", "high", "low", "close", "volume")
    index = pd.DatetimeIndex(starts, tz="UTC", name="ts")
    frame = pd.DataFrame(dict(zip(names, columns, strict=True)), index=index)
    get_ac().library("market_data").write(
        f"{NAME}_1_min", frame.drop(frame.index[leave_out]), metadata={"con_id": con_id} if con_id else None
    )


@pytest.fixture
def bars() -> Iterator[None]:
    write_bars()
    yield
    get_ac().library("market_data").delete(f"{NAME}_1_min")


@pytest.fixture
def strategy(folder: Path, bars: None) -> str:
    """A strategy that ran through the day; its parameters stood since the day before."""
    row = save_strategy(
        {"symbol": "TURN", "filename": "turn.py", "params": {"symbols": [NAME], "size": 10, "min_quality": 0}}, None
    )
    row.history.update(history_date=OPEN - timedelta(days=1))
    for at, state in ((OPEN - timedelta(hours=1), "running"), (OPEN + timedelta(hours=7), "stopped")):
        EngineEvent.objects.create(at=at, kind="strategy", strategy="TURN", payload={"state": state})
    return row.code_hash


def order(at: datetime, side: str, quantity: int, code_hash: str, *, fill: bool = True, **changes: Any) -> Order:
    """Put an order on record, and its fill a second later."""
    account = Account.objects.get_or_create(account_id="DU1", defaults={"base_currency": "USD"})[0]
    instrument = Instrument.objects.get_or_create(
        con_id=CON_ID, defaults={"symbol": NAME, "sec_type": "STK", "currency": "USD"}
    )[0]
    terms = {"quantity": Decimal(quantity), "order_type": "MKT", "tif": "DAY"}
    fields = {"side": side, "state": "filled", "code_hash": code_hash, "params_revision": 0, **terms} | changes
    row = Order.objects.create(
        order_ref=f"TURN/{at:%H%M%S}{side}", owner="TURN", con_id=CON_ID, symbol=NAME, sec_type="STK",
        created_at=at, updated_at=at, **fields,
    )  # fmt: skip
    filled = at + timedelta(seconds=1)
    OrderEvent.objects.create(order=row, at=at, state="intent", filled=0, remaining=quantity, **terms)
    OrderEvent.objects.create(order=row, at=filled, state="filled", filled=quantity, remaining=0, **terms)
    if fill:
        Movement.objects.create(
            account=account, owner="TURN", kind=MovementKind.FILL, instrument=instrument, currency="USD",
            quantity=quantity if side == "BUY" else -quantity, cash_after=0, booked_at=filled, key=row.order_ref,
        )  # fmt: skip
    return row


def at(hour: int, minute: int, second: int = 1) -> datetime:
    return OPEN.replace(hour=hour, minute=minute, second=second)


def traded(code_hash: str, size: int = 10) -> None:
    order(at(15, 30), "BUY", size, code_hash)
    order(at(16, 30), "SELL", size, code_hash)


def answer_of(returncode: int = 0) -> dict[str, Any]:
    out = StringIO()
    arguments = ("shadow_replay", "TURN", "--day", DAY.isoformat(), "--json")
    if not returncode:
        call_command(*arguments, stdout=out)
    else:
        with pytest.raises(CommandError) as caught:
            call_command(*arguments, stdout=out)
        assert caught.value.returncode == returncode
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def test_a_day_that_the_code_would_trade_again_ends_the_command_quietly(strategy: str) -> None:
    traded(strategy)
    answer = answer_of()
    assert (answer["verdict"], answer["orders"], answer["differences"]) == ("same", 2, 0)
    assert answer["reasons"] == answer["notes"] == []
    assert answer["bars"] == 78
    assert answer["data_versions"]


def test_parameters_that_drifted_since_the_record_are_found_and_told_in_words(strategy: str) -> None:
    traded(strategy, size=12)
    out = StringIO()
    with pytest.raises(CommandError, match="Orders that differ: 1") as caught:
        call_command("shadow_replay", "TURN", "--day", DAY.isoformat(), stdout=out)
    assert caught.value.returncode == 1
    assert "SHDW: other quantity" in out.getvalue()
    assert "15:30:01 BUY 12 MKT" in out.getvalue()
    assert "15:30:00 BUY 10 MKT" in out.getvalue()


def test_missing_and_extra_orders_are_found(strategy: str) -> None:
    order(at(15, 30), "BUY", 10, strategy)
    order(at(18, 0), "SELL", 10, strategy)
    answer = answer_of(1)
    assert [row["what"] for row in answer["different"]] == ["missing: not placed live", "extra: placed live alone"]


def test_an_edit_during_the_day_is_replayed_from_its_moment_on(strategy: str) -> None:
    from strategies.models import Strategy

    order(at(15, 30), "BUY", 12, strategy, params_revision=1)
    order(at(16, 30), "SELL", 12, strategy, params_revision=1)
    row = save_strategy({"symbol": "TURN", "params": {"symbols": [NAME], "size": 12, "min_quality": 0}}, None)
    newest = row.history.order_by("-history_id").first()
    Strategy.history.filter(history_id=newest.history_id).update(history_date=at(15, 0))
    answer = answer_of()
    assert (answer["verdict"], answer["notes"]) == ("same", [])


def test_edited_code_is_named_with_both_hashes(strategy: str, folder: Path) -> None:
    traded(strategy)
    (folder / "turn.py").write_text(CODE + "\n# edited\n")
    answer = answer_of()
    assert strategy[:12] in answer["notes"][0]
    assert answer["files"][0]["sha256"][:12] in answer["notes"][0]


def test_orders_of_another_revision_than_stood_then_are_named(strategy: str) -> None:
    order(at(15, 30), "BUY", 10, strategy, params_revision=4)
    order(at(16, 30), "SELL", 10, strategy)
    assert "another revision" in answer_of()["notes"][0]


def test_bars_that_are_missing_make_a_day_inconclusive(strategy: str) -> None:
    traded(strategy)
    write_bars(leave_out=slice(500, 560))
    answer = answer_of(2)
    assert answer["verdict"] == "inconclusive"
    assert "12 of 78 bars of SHDW 5m are missing from" in answer["reasons"][0]


def test_a_day_of_which_nothing_tells_that_it_ran_is_inconclusive(strategy: str) -> None:
    EngineEvent.objects.all().delete()
    assert "Nothing tells that it ran" in answer_of(2)["reasons"][0]


def test_orders_without_a_start_on_record_are_replayed_from_the_days_first_moment(strategy: str) -> None:
    EngineEvent.objects.all().delete()
    traded(strategy)
    answer = answer_of()
    assert (answer["verdict"], answer["orders"]) == ("same", 2)
    assert "no longer on record" in answer["notes"][0]


def test_a_start_in_the_middle_of_the_day_begins_there(strategy: str) -> None:
    EngineEvent.objects.all().delete()
    EngineEvent.objects.create(at=at(16, 0), kind="strategy", strategy="TURN", payload={"state": "running"})
    held = order(at(14, 40), "BUY", 10, strategy)
    order(at(16, 30), "SELL", 10, strategy)
    answer = answer_of(1)
    assert [(row["ref"], row["what"]) for row in answer["different"]] == [(held.order_ref, "extra: placed live alone")]


def test_a_start_in_the_middle_of_the_day_has_all_of_the_day_before_it(strategy: str, folder: Path) -> None:
    code = CODE.replace("warm_up_bars = 50", "warm_up_bars = 1").replace('== "15:30"', '== "15:30" and len(bars) >= 12')
    (folder / "turn.py").write_text(code)
    EngineEvent.objects.all().delete()
    EngineEvent.objects.create(at=at(15, 20), kind="strategy", strategy="TURN", payload={"state": "running"})
    traded(strategy)
    assert answer_of()["verdict"] == "same"


def test_positions_and_orders_of_days_before_are_those_of_the_moment(strategy: str) -> None:
    """Bought the day before; a limit that ended then is not looked at any more."""
    order(OPEN - timedelta(days=1), "BUY", 10, strategy)
    order(OPEN - timedelta(hours=20), "SELL", 3, strategy, fill=False, order_type="LMT", limit_price=Decimal(90))
    order(at(15, 30), "BUY", 10, strategy)
    order(at(16, 30), "SELL", 20, strategy)
    assert answer_of()["verdict"] == "same"


def test_a_sized_quantity_is_held_against_the_equity_on_record(strategy: str, folder: Path) -> None:
    (folder / "turn.py").write_text(CODE.replace(', self.config["size"])', ")"))
    order(at(15, 30), "BUY", 200, strategy)
    order(at(16, 30), "SELL", 200, strategy)
    account = Account.objects.get()
    EquitySnapshot.objects.create(account=account, owner="TURN", taken_at=OPEN, currency="USD", equity=Decimal(10_000))
    assert answer_of()["verdict"] == "same"
    EquitySnapshot.objects.update(equity=Decimal(20_000))
    assert answer_of(1)["different"][0]["what"] == "other quantity"


@pytest.mark.parametrize(("arguments", "text"), [(("NOBODY",), "no strategy"), (("TURN", "--day", "someday"), "day")])
def test_what_cannot_be_replayed_ends_with_2(strategy: str, arguments: tuple[str, ...], text: str) -> None:
    given = arguments if "--day" in arguments else (*arguments, "--day", DAY.isoformat())
    with pytest.raises(CommandError, match=text) as caught:
        call_command("shadow_replay", *given, stdout=StringIO())
    assert caught.value.returncode == 2


def test_a_day_without_any_bar_is_inconclusive(strategy: str) -> None:
    get_ac().library("market_data").delete(f"{NAME}_1_min")
    traded(strategy)
    answer = answer_of(2)
    assert "78 of 78 bars of SHDW 5m are missing" in answer["reasons"][0]
    write_bars()


def test_bars_that_came_by_hand_stand_in_and_are_noted(strategy: str) -> None:
    write_bars(con_id=0)
    traded(strategy)
    assert "SHDW_1_min came by hand" in answer_of()["notes"][0]


def test_bars_of_another_contract_of_the_ticker_are_not_read(strategy: str) -> None:
    write_bars(con_id=CON_ID + 1)
    traded(strategy)
    assert "78 of 78 bars" in answer_of(2)["reasons"][0]


def test_recorded_bars_of_seconds_count_before_the_stored_minutes(strategy: str, folder: Path) -> None:
    """Live its close was above 60 in one window alone, of which the minutes of the history know nothing."""
    code = CODE.replace('minute == "15:30"', "bars.last_close > 60")
    (folder / "turn.py").write_text(code)
    starts = pd.date_range("2024-01-03T15:25:00Z", periods=60, freq="5s", name="ts").as_unit("ns")
    prices = dict.fromkeys(("open", "high", "low", "close"), 61.0)
    recorded = pd.DataFrame({**prices, "volume": 5.0}, index=starts)
    library = get_ac().library("market_data")
    library.write(f"{NAME}_5_secs", recorded, metadata={"con_id": CON_ID})
    traded(strategy)
    try:
        assert answer_of()["verdict"] == "same"
        library.write(f"{NAME}_5_secs", recorded.drop(starts[30]), metadata={"con_id": CON_ID})  # a part is missing
        assert answer_of(1)["different"][0]["what"] == "extra: placed live alone"
    finally:
        library.delete(f"{NAME}_5_secs")


def test_an_order_right_after_a_bar_that_is_not_on_record_makes_the_day_inconclusive(strategy: str) -> None:
    traded(strategy)
    write_bars(leave_out=slice(390 + 57, 390 + 58))  # one minute of the window that ends at 15:30
    answer = answer_of(2)
    assert answer["reasons"] == [
        "Bars that are not on record although an order was placed right after them: 1; SHDW 5m of 2024-01-03 15:25Z."
    ]


# -- as a job


def run_job() -> Job:
    job = work_services.ask_for(
        JobKind.SHADOW, {"strategy": "TURN", "day": DAY.isoformat()}, actor="ana", source="page"
    )
    assert job_run.run_job(job.pk) == JobState.DONE
    job.refresh_from_db()
    return job


def test_a_job_whose_day_differs_alerts_and_one_that_is_the_same_ends_the_alert(strategy: str) -> None:
    order(at(15, 30), "BUY", 10, strategy)
    assert run_job().result["verdict"] == "different"
    alert = Alert.objects.get(key="shadow:TURN", cleared_at=None)
    assert (alert.severity, alert.strategy) == ("warning", "TURN")
    assert "missing" in alert.text
    order(at(16, 30), "SELL", 10, strategy)
    assert run_job().result["verdict"] == "same"
    assert not Alert.objects.filter(key="shadow:TURN", cleared_at=None).exists()


def open_alerts() -> set[str]:
    return set(Alert.objects.filter(cleared_at=None).values_list("key", flat=True))


def test_a_job_that_cannot_tell_leaves_an_alert_as_it_is_and_says_that_it_could_not(strategy: str) -> None:
    order(at(15, 30), "BUY", 10, strategy)
    run_job()
    order(at(16, 30), "SELL", 10, strategy)
    write_bars(leave_out=slice(500, 560))
    assert run_job().result["verdict"] == "inconclusive"
    assert open_alerts() == {"shadow:TURN", "shadow_untold:TURN"}
    write_bars()
    assert run_job().result["verdict"] == "same"
    assert open_alerts() == set()


def test_the_command_alerts_when_it_is_told_to(strategy: str) -> None:
    order(at(15, 30), "BUY", 10, strategy)
    with pytest.raises(CommandError):
        call_command("shadow_replay", "TURN", "--day", DAY.isoformat(), "--alert", stdout=StringIO())
    assert Alert.objects.filter(key="shadow:TURN").exists()


def test_moments_of_a_day_are_those_of_new_york() -> None:
    from trading.backtest.shadow_day import bounds_of

    first, last = bounds_of(date(2024, 3, 10))  # the day on which the clocks go forward
    assert (first.hour, last - first) == (5, timedelta(hours=23))
    assert moment_of(0).tzinfo is not None
