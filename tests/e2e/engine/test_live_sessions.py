"""Live sessions in the engine: bars of shared lines, orders through strategies' own books, commands, and their end."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from portfolio.models import Execution
from strategies.services import save_strategy
from tests.e2e.engine.harness import Rig, run_state, until
from tests.support.session_files import FINDER, GATES, recorder
from trading.market.session_status import Phase
from trading.market.time_manager import TimeManager
from trading.models import Alert, Order
from trading.session_models import Holiday, MarketHours, ScannerConfig, ScanRun, SessionConfig, SessionRun

pytestmark = pytest.mark.e2e

NEW_YORK = ZoneInfo("America/New_York")
GROUP = "US_EQUITY"


@pytest.fixture
def open_market(transactional_db: None) -> None:
    """Have the market open since a while ago, for a while, whatever day it is."""
    now = datetime.now(NEW_YORK)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    opens = max(midnight, now - timedelta(minutes=20))
    usual = TimeManager("live").get_trading_session(now.date())
    if usual.is_early_close and usual.regular_close is not None:
        opens = min(opens, usual.regular_close.astimezone(NEW_YORK) - timedelta(minutes=30))
    closes = min(midnight + timedelta(hours=23, minutes=59), now + timedelta(hours=3))
    first, last = (one.replace(second=0, microsecond=0).time() for one in (opens, closes))
    MarketHours.objects.create(
        group=GROUP, valid_from=now.date(), regular_open=first, regular_close=last, reason="the test's own"
    )
    Holiday.objects.create(group=GROUP, day=now.date(), name="open for the test", closes_at=last, is_open=True)


@pytest.fixture
def trader(rig: Rig, open_market: None) -> Rig:
    """A rig with the recording strategies ALPHA and BETA, inactive rows as owners of their trades."""
    GATES.clear()
    for name in ("alpha", "beta"):
        (rig.folder / f"{name}.py").write_text(recorder(name.capitalize(), auto=name == "beta"))
        save_strategy(
            {
                "symbol": name.upper(),
                "filename": f"{name}.py",
                "target_weight": Decimal("0.3"),
                "restart_policy": "never",
                "params": {"pairs": []},
            },
            None,
        )
    (rig.folder / "scanners").mkdir()
    (rig.folder / "scanners" / "finder.py").write_text(FINDER)
    return rig


def row(name: str = "desk", *, active: bool = False, **data: Any) -> SessionConfig:
    """Save a live session on five-second bars."""
    parts = {
        "symbols": ["SPY"],
        "streams": ["5s"],
        "strategies": [entry("alpha", every=1)],
        **data,
    }
    trading = {"max_buying_power": 1_000_000, "max_per_symbol": 500_000, "max_per_trade": 500_000}
    config = {"mode": "live", "session_data_config": parts, "trading_config": trading}
    return SessionConfig.objects.create(name=name, config=config, active=active)


def entry(name: str, *, symbol: str = "SPY", **config: Any) -> dict[str, Any]:
    return {"module": name, "config": {"pairs": [[symbol, "5s"]], "quantity": 5, **config}}


def strategy_of(engine: Any, name: str, session: str = "desk") -> Any:
    """Return the code of a session's strategy."""
    manager = engine.sessions._sessions[session].system.get_strategy_manager()
    return next(one.strategy for one in manager._strategy_threads if one.strategy.name == name)


def run_of(name: str = "desk") -> SessionRun:
    run = SessionRun.objects.filter(name=name).first()
    assert run is not None
    return run


def steps_of(strategy: Any, symbol: str = "SPY") -> set[int]:
    """Return the distances of the bars of a symbol that a strategy was told of, in seconds."""
    starts = [start for one, _, start in strategy.told if one == symbol]
    return {(after - before) // 10**9 for before, after in pairwise(starts)}


def test_a_session_trades_through_its_strategys_own_books(trader: Rig) -> None:
    row()
    engine = trader.engine()
    started = trader.result(trader.do("start_session", 120.0, session="desk"))
    assert started == {"session": "desk", "run": run_of().pk, "phase": "streaming"}
    alpha = strategy_of(engine, "alpha")
    until(lambda: Execution.objects.filter(owner="ALPHA").count() >= 2, 60.0, "two fills")
    assert trader.do("start_session", session="desk").error == "Session desk runs already."
    assert trader.result(trader.do("stop_session", 40.0, session="desk"))["phase"] == "stopped"
    assert steps_of(alpha) == {5}
    assert alpha.ended
    trader.assert_books_equal_broker()
    orders = Order.objects.filter(owner="ALPHA")
    assert {(order.quantity, order.order_type) for order in orders} == {(Decimal(5), "MKT")}
    assert {row.owner for row in Execution.objects.all()} == {"ALPHA"}
    run = run_of()
    assert (run.phase, run.mode, run.error) == ("stopped", "live", "")
    assert run.ended_at is not None
    [figures] = run.metrics["strategies"]
    assert figures["notifications_processed"] == len(alpha.told)
    assert (figures["errors"], run.metrics["totals"]["fills"]) == (0, Execution.objects.count())
    until(lambda: run_state("ALPHA") == "stopped")
    assert trader.do("stop_session", session="desk").error == "Session desk does not run."
    trader.start(engine, "ALPHA")  # its row is free again


def test_pause_keeps_bars_from_strategies_and_resume_goes_on(trader: Rig) -> None:
    row(strategies=[entry("alpha")])
    engine = trader.engine()
    trader.result(trader.do("start_session", 120.0, session="desk"))
    alpha = strategy_of(engine, "alpha")
    until(lambda: alpha.told, 30.0)
    assert trader.result(trader.do("pause_session", session="desk"))["phase"] == "paused"
    until(lambda: run_of().phase == "paused", what="the page shows it")
    system: Any = engine.sessions._sessions["desk"].system
    data = system.get_session_data()
    bars = data.get_bars_ref("SPY", "5s")
    told, count = len(alpha.told), len(bars)
    until(lambda: len(bars) >= count + 2, 30.0, "bars are taken in meanwhile")
    assert len(alpha.told) <= told + 1, "one may have been under way"
    assert trader.result(trader.do("resume_session", session="desk"))["phase"] == "streaming"
    heard = len(alpha.told)
    until(lambda: len(alpha.told) > heard, 30.0, "it hears again")
    assert alpha.told[-1][2] == int(bars.starts[-1])
    assert run_of().phase == "streaming"


def test_a_lost_line_is_ridden_out_without_a_bar_twice(trader: Rig) -> None:
    row(strategies=[entry("alpha", every=1)])
    engine = trader.engine()
    trader.result(trader.do("start_session", 120.0, session="desk"))
    alpha = strategy_of(engine, "alpha")
    until(lambda: Execution.objects.filter(owner="ALPHA").exists(), 60.0)
    trader.stop_server()
    until(lambda: not engine.session.connected, 20.0)
    heard = len(alpha.told)
    trader.start_server()
    until(lambda: len(alpha.told) >= heard + 2, 90.0, "bars come again")
    count = Execution.objects.count()
    until(lambda: Execution.objects.count() > count, 60.0, "and are traded")
    assert run_of().phase == "streaming"
    starts = [start for _, _, start in alpha.told]
    assert starts == sorted(set(starts))
    trader.assert_books_equal_broker()


def test_a_symbol_promoted_by_hand_is_loaded_told_and_traded(trader: Rig) -> None:
    row(strategies=[entry("beta", every=1)])
    engine = trader.engine()
    trader.result(trader.do("start_session", 120.0, session="desk"))
    beta = strategy_of(engine, "beta")
    refused = trader.do("promote_symbol", 60.0, session="desk", ticker="NOSUCH")
    assert refused.state == "failed"
    assert "NOSUCH" in refused.error
    added = trader.result(trader.do("promote_symbol", 90.0, session="desk", ticker="AAPL"))
    assert added == {"session": "desk", "symbol": "AAPL", "is_new": True}
    assert [symbol for symbol, _, _ in beta.added] == ["AAPL"]
    until(lambda: Execution.objects.filter(owner="BETA", instrument__symbol="AAPL").exists(), 60.0, "it is traded")
    again = trader.result(trader.do("promote_symbol", 90.0, session="desk", ticker="AAPL"))
    assert not again["is_new"]
    until(lambda: {entry["symbol"] for entry in run_of().metrics["symbols"]} == {"SPY", "AAPL"})
    trader.assert_books_equal_broker()


def test_a_scanner_of_the_session_promotes_what_ib_ranks(trader: Rig) -> None:
    scanner = {
        "module": "ib_scanner",
        "pre_session": True,
        "config": {"scan_code": "MOST_ACTIVE", "most": 2},
    }
    row(strategies=[entry("beta", symbol="NONE")], symbols=[], scanners=[scanner])
    engine = trader.engine()
    trader.result(trader.do("start_session", 180.0, session="desk"))
    until(lambda: ScanRun.objects.exists(), 60.0, "the scan is stored")
    [scan] = ScanRun.objects.all()
    assert (scan.scanner, scan.session, scan.error) == ("ib_scanner", run_of(), "")
    assert len(scan.symbols) == 2
    assert scan.details["promoted"] == scan.symbols
    beta = strategy_of(engine, "beta")
    until(lambda: {symbol for symbol, _, _ in beta.told} == set(scan.symbols), 60.0, "bars of both are told")


def test_a_scan_by_hand_is_stored_and_promotes_nothing(trader: Rig) -> None:
    ScannerConfig.objects.create(name="actives", module="ib_scanner", config={"scan_code": "MOST_ACTIVE", "most": 3})
    ScannerConfig.objects.create(name="finds", module="scanners.finder", config={"universe": ["SPY"], "finds": ["SPY"]})
    trader.engine()
    found = trader.result(trader.do("run_scanner", 60.0, scanner="actives"))
    assert len(found["symbols"]) == 3
    assert trader.result(trader.do("run_scanner", 90.0, scanner="finds"))["symbols"] == ["SPY"]
    rows = {row.scanner: row for row in ScanRun.objects.all()}
    assert rows["actives"].pk == found["scan"]
    assert rows["finds"].details["promoted"] == []
    assert rows["finds"].universe == 1


def test_an_active_session_begins_by_itself_goes_on_with_another_engine_and_stays_stopped(trader: Rig) -> None:
    row(active=True)
    engine = trader.engine()
    until(lambda: SessionRun.objects.filter(phase="streaming").exists(), 90.0, "it began by itself")
    alpha = strategy_of(engine, "alpha")
    engine.cleanup(10.0)
    assert alpha.ended
    assert (run_of().phase, run_of().message) == ("stopped", "Stopped with its engine.")
    assert run_of().ended_at is not None
    assert not [one for one in threading.enumerate() if one.name.startswith(("Session-desk", "Strategy-alpha"))]
    other = trader.engine()
    until(lambda: SessionRun.objects.filter(phase="streaming").count() == 1, 90.0, "the next engine goes on")
    trader.result(trader.do("stop_session", 40.0, session="desk"))
    other.sessions._tried.clear()
    other.sessions.tick()
    assert SessionRun.objects.count() == 2, "what a person stopped stays so"


def test_a_session_that_cannot_begin_raises_an_alert_and_is_not_tried_again(trader: Rig) -> None:
    row(active=True, strategies=[{"module": "strategies.examples.rsi_strategy", "config": {"symbols": ["SPY"]}}])
    engine = trader.engine()
    alert = until(lambda: Alert.objects.filter(key="session:desk").first(), 60.0)
    assert "Make a strategy called rsi_strategy" in alert.text
    assert run_of().phase == "failed"
    engine.sessions.tick()
    assert SessionRun.objects.count() == 1


def test_two_sessions_never_decide_for_one_strategy(trader: Rig) -> None:
    row()
    row("other", strategies=[entry("alpha"), entry("beta")])
    trader.engine()
    trader.result(trader.do("start_session", 120.0, session="desk"))
    refused = trader.do("start_session", session="other")
    assert refused.error == "Session desk runs alpha already; a strategy belongs to one session."


def test_a_session_ends_by_itself_after_the_close_and_keeps_the_last_bar(trader: Rig) -> None:
    row(active=True, strategies=[entry("alpha")])
    engine = trader.engine()
    until(lambda: SessionRun.objects.filter(phase="streaming").exists(), 90.0)
    alpha = strategy_of(engine, "alpha")
    now = datetime.now(NEW_YORK)
    closes = now.replace(microsecond=0) + timedelta(seconds=15 - now.second % 5)
    Holiday.objects.update(closes_at=closes.time())
    Holiday.objects.get().save()  # clocks hear of it
    until(lambda: run_of().phase == "ended", 60.0, "the day is over")
    assert alpha.told[-1][2] == (int(closes.timestamp()) - 5) * 10**9
    assert alpha.ended
    until(lambda: run_state("ALPHA") == "stopped")
    engine.sessions.tick()
    assert SessionRun.objects.count() == 1


def test_a_dead_engines_sessions_are_marked_by_the_next(trader: Rig) -> None:
    now = datetime.now(UTC)
    SessionRun.objects.create(
        name="desk",
        mode="live",
        phase=Phase.STREAMING,
        process="gone:1",
        started_at=now,
        beat_at=now - timedelta(hours=1),
    )
    trader.engine()
    until(lambda: run_of().phase == "failed")
    assert run_of().message == "Its process ended without a word."
