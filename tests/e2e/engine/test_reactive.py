"""Reactive strategies in the engine: bars of a shared line, signals to orders, and every end that they can have."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from portfolio.models import Execution
from strategies.models import ConnectionKind
from strategies.services import save_strategy
from tests.e2e.engine.harness import Rig, position, run_state, until
from trading.ib import silence
from trading.models import EngineEvent, Order, StrategyRun

pytestmark = pytest.mark.e2e

HEAD = """
from pydantic import Field
from strategies.params import ReactiveParams
from strategies.reactive import ReactiveStrategy, Signal, SignalAction

class Params(ReactiveParams):
    regular_hours: bool = False
    symbols: list[str] = ["SPY"]
    interval: str = "5s"
    say: str = ""
    size: int = 10
"""

SAYS = (
    HEAD
    + """
class SaysStrategy(ReactiveStrategy):
    \"\"\"Says at every bar what its parameters say; notes what it saw.\"\"\"
    params_model = Params
    def __init__(self, name, config):
        super().__init__(name, config)
        self.seen, self.setups, self.torn_down, self.said = [], 0, 0, 0
    def setup(self, context):
        self.setups += 1
        return super().setup(context)
    def get_subscriptions(self):
        return [(symbol, self.config["interval"]) for symbol in self.config["symbols"]]
    def on_bars(self, symbol, interval):
        bars = self.context.get_bars(symbol, interval)
        self.seen.append((symbol, len(bars), bars[-1].close))
        if not self.config["say"] or self.said:
            return []
        self.said += 1
        return [Signal(symbol, SignalAction[word], self.config["size"] if word in ("BUY", "SELL") else None)
                for word in self.config["say"].split()]
    def teardown(self, context):
        self.torn_down += 1
"""
)


def says(rig: Rig, symbol: str, **fields: Any) -> Any:
    """A strategy that says something at its first bar; shared by default."""
    params = {"say": "", **fields.pop("params", {})}
    return rig.strategy(symbol, SAYS, params=params, **fields)


def lines_at_the_gateway(rig: Rig) -> list[int]:
    """Return the contract of every subscription to real-time bars, of all clients."""
    sessions = rig.gateway.server.hub.context.sessions
    return rig.gateway.call(lambda: [one.con_id for session in sessions.values() for one in session.bars.values()])


def line_count(engine: Any) -> int:
    return int(engine.budget.figures(0.0)["lines"]["used"])


def test_new_reactive_rows_share_a_connection_unless_one_is_chosen(rig: Rig) -> None:
    assert says(rig, "ALPHA").connection == ConnectionKind.SHARED
    assert says(rig, "ALPHA").kind == "reactive"
    assert says(rig, "BETA", connection="own").connection == ConnectionKind.OWN


def test_bars_are_warmed_up_from_history_and_grow_on_the_line(rig: Rig) -> None:
    says(rig, "ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    series = alpha._live_data.get_bars_ref("SPY", "5s")
    warm = len(series)
    assert warm >= 200, "history was there before the first live bar"
    until(lambda: len(alpha.reactive.seen) >= 2, 30.0, "two live bars")
    assert len(series) >= warm + 2
    assert all(step == 5_000_000_000 for step in (series.starts[1:] - series.starts[:-1]).tolist()), (
        "no hole, no double"
    )
    assert alpha.reactive.setups == 1
    assert alpha.worker.get_metrics()["errors"] == 0


def test_signal_becomes_an_order_whose_fill_is_the_strategys_own(rig: Rig) -> None:
    says(rig, "ALPHA", weight="0.3", params={"say": "BUY"})
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    until(lambda: position("ALPHA", "SPY") == 10, 30.0, "the fill")
    rig.assert_books_equal_broker()
    [order] = Order.objects.filter(owner="ALPHA")
    assert (order.side, order.quantity, order.order_type, order.state) == ("BUY", Decimal(10), "MKT", "filled")
    assert len(order.code_hash) == 64
    figures = alpha.executor.figures.as_dict()
    assert (figures["received"], figures["traded"], figures["refused"]) == (1, 1, 0)


def test_two_strategies_on_one_symbol_share_one_line_and_own_their_own_fills(rig: Rig) -> None:
    says(rig, "ALPHA", weight="0.3", params={"say": "BUY", "size": 7})
    says(rig, "BETA", weight="0.3", params={"say": "BUY", "size": 5})
    engine = rig.engine()
    alpha, beta = rig.start(engine, "ALPHA"), rig.start(engine, "BETA")
    assert alpha.client_id == beta.client_id
    until(lambda: [position("ALPHA", "SPY"), position("BETA", "SPY")] == [7, 5], 30.0, "both fills")
    con_id = alpha._followed["SPY"].con_id
    assert lines_at_the_gateway(rig) == [con_id], "one line, the recorder's bars included"
    assert alpha._live_data.get_bars_ref("SPY", "5s") is beta._live_data.get_bars_ref("SPY", "5s")
    rig.assert_books_equal_broker()
    for owner in ("ALPHA", "BETA"):
        rows = Execution.objects.filter(owner=owner)
        assert {row.order_ref.partition("/")[0] for row in rows} == {owner}
    assert rig.do("stop_strategy", symbol="ALPHA").state == "done"
    seen = len(beta.reactive.seen)
    until(lambda: len(beta.reactive.seen) > seen, 20.0, "the line lives on with the other")


def test_close_takes_orders_back_and_flattens_its_own_position_only(rig: Rig) -> None:
    rig.strategy("OTHER", weight="0.2")
    says(rig, "ALPHA", weight="0.3")
    engine = rig.engine()
    other, alpha = rig.start(engine, "OTHER"), rig.start(engine, "ALPHA")
    rig.trade(other, "SPY", 20)
    rig.trade(alpha, "SPY", 10)
    resting = rig.place(alpha, "SPY", 3, limit=1.0)
    until(lambda: [position("OTHER", "SPY"), position("ALPHA", "SPY")] == [20, 10])
    save_strategy({"symbol": "ALPHA", "params": {"say": "CLOSE"}}, None)
    until(lambda: position("ALPHA", "SPY") == 0, 30.0, "flat")
    until(lambda: Order.objects.get(order_ref=resting.order_ref).state == "cancelled")
    assert position("OTHER", "SPY") == 20
    rig.assert_books_equal_broker()


def test_hold_trades_nothing_and_a_sale_from_flat_is_refused_and_told(rig: Rig) -> None:
    says(rig, "ALPHA", weight="0.3", params={"say": "HOLD SELL"})
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    until(lambda: alpha.executor.figures.received == 2 and alpha.executor.figures.refused, 30.0, "both signals")
    figures = alpha.executor.figures.as_dict()
    assert (figures["hold"], figures["traded"], figures["refused_by_code"]) == (1, 0, {"short_not_allowed": 1})
    assert not Order.objects.filter(owner="ALPHA").exists()
    until(
        lambda: any(
            "Signal refused" in event.payload["text"]
            for event in EngineEvent.objects.filter(kind="log", strategy="ALPHA")
        ),
        what="a line on its page",
    )


PROTECTED = SAYS.replace(
    'return [Signal(symbol, SignalAction[word], self.config["size"] if word in ("BUY", "SELL") else None)',
    "return [Signal(symbol, SignalAction[word], (self.config['size'] or None) if word in ('BUY', 'SELL') else None, "
    "stop_loss=bars[-1].close * 0.5 if word == 'BUY' else None, "
    "take_profit=bars[-1].close * 2 if word == 'BUY' else None)",
)


def exits_of(owner: str) -> dict[str, Decimal]:
    """Return what the working exits would trade, by type."""
    rows = Order.objects.filter(owner=owner, state__in=["accepted", "sent", "partial"]).exclude(parent_ref="")
    return {row.order_type: row.quantity - row.filled for row in rows}


def speak(alpha: Any, word: str, size: int = 0) -> None:
    """Have a strategy say something at its next bar."""
    save_strategy({"symbol": alpha.symbol, "params": {"say": word, "size": size}}, None)
    until(lambda: alpha.reactive.config["say"] == word and alpha.reactive.config["size"] == size)
    alpha.reactive.said = 0


def test_exits_protect_an_entry_shrink_with_it_and_end_with_it(rig: Rig) -> None:
    rig.strategy("ALPHA", PROTECTED, weight="0.3", params={"say": "BUY", "size": 10})
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    until(lambda: position("ALPHA", "SPY") == 10, 30.0, "the entry")
    until(lambda: exits_of("ALPHA") == {"LMT": 10, "STP": 10}, what="both exits")
    changes, modify = list[Any](), alpha.broker.modify_order

    async def note(order_ref: str, **terms: Any) -> None:
        changes.append(terms["quantity"])
        await modify(order_ref, **terms)

    alpha.broker.modify_order = note
    speak(alpha, "SELL", 4)
    until(lambda: position("ALPHA", "SPY") == 6, 30.0, "a part was sold")
    assert changes == [6, 6], "before the sale, not by the engine's look at what is left over"
    until(lambda: exits_of("ALPHA") == {"LMT": 6, "STP": 6}, what="exits of what is left")
    speak(alpha, "SELL")
    until(lambda: position("ALPHA", "SPY") == 0, 30.0, "the rest")
    until(lambda: not exits_of("ALPHA"), what="no exit is left to open a position the other way")
    rig.assert_books_equal_broker()


def test_exits_of_an_earlier_life_under_another_client_end_with_the_position(rig: Rig) -> None:
    rig.strategy("ALPHA", PROTECTED, weight="0.3", params={"say": "BUY", "size": 10})
    rig.strategy("BETA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    first = alpha.client_id
    until(lambda: exits_of("ALPHA") == {"LMT": 10, "STP": 10}, 30.0, "both exits")
    engine.cleanup(1.0)
    save_strategy({"symbol": "ALPHA", "params": {"say": ""}}, None)
    again = rig.engine(autostart=False)
    rig.start(again, "BETA")
    alpha = rig.start(again, "ALPHA")
    assert alpha.client_id != first
    assert exits_of("ALPHA") == {"LMT": 10, "STP": 10}, "they protect the position meanwhile"
    speak(alpha, "CLOSE")
    until(lambda: position("ALPHA", "SPY") == 0, 40.0, "flat")
    until(lambda: not exits_of("ALPHA"), what="no exit is left")
    rig.assert_books_equal_broker()


@pytest.mark.parametrize(
    ("gate", "code"),
    [({"max_open_positions": 1}, "max_open_positions"), ({"max_buying_power": 4000.0}, "max_buying_power")],
)
def test_bounds_over_all_symbols_count_positions_and_orders(rig: Rig, gate: dict[str, Any], code: str) -> None:
    source = (
        SAYS.replace("or self.said:", "or symbol in self.told:")
        .replace("self.said += 1", "self.told.add(symbol)")
        .replace("self.said = [], 0, 0, 0", "self.said = [], 0, 0, 0\n        self.told = set()")
    )
    fields = {"say": "BUY", "size": 10, "symbols": ["SPY", "TLT"], **gate}
    rig.strategy("ALPHA", source, weight="0.4", params=fields)
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    figures = alpha.executor.figures
    until(lambda: figures.traded + sum(figures.refused.values()) == 2, 40.0, "a decision on each")
    assert (figures.traded, dict(figures.refused)) == (1, {code: 1}), figures
    until(lambda: position("ALPHA", "SPY") + position("ALPHA", "TLT") == 10, what="one symbol is held")
    rig.assert_books_equal_broker()


def test_edited_parameters_reach_the_strategy_and_what_it_follows(rig: Rig) -> None:
    says(rig, "ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    until(lambda: alpha.reactive.seen, 20.0)
    save_strategy({"symbol": "ALPHA", "params": {"symbols": ["QQQ"]}}, None)
    until(lambda: any(symbol == "QQQ" for symbol, *_ in alpha.reactive.seen), 30.0, "a bar of the new symbol")
    assert alpha.reactive.setups == 2
    assert list(alpha._followed) == ["QQQ"]
    assert engine.market.lines.users(756733) == 0, "SPY is followed by nobody any more"


def test_parameters_that_setup_refuses_end_it_with_a_reason(rig: Rig) -> None:
    source = SAYS.replace(
        "return super().setup(context)", 'return super().setup(context) and self.config["say"] != "NO"'
    )
    rig.strategy("ALPHA", source)
    engine = rig.engine()
    rig.start(engine, "ALPHA")
    save_strategy({"symbol": "ALPHA", "params": {"say": "NO"}}, None)
    until(lambda: run_state("ALPHA") == "failed", 20.0)
    assert "refused its new parameters" in StrategyRun.objects.get(symbol="ALPHA").message


def test_stop_waits_for_working_orders_and_tears_down_once(rig: Rig) -> None:
    says(rig, "ALPHA", weight="0.3")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    ticket = rig.place(alpha, "SPY", 1, limit=1.0)
    done = rig.do("stop_strategy", symbol="ALPHA")
    assert ticket.order_ref in rig.result(done)["message"]
    assert Order.objects.get(order_ref=ticket.order_ref).state == "accepted"
    assert alpha.reactive.torn_down == 1
    assert not alpha.worker.is_alive()
    until(lambda: engine.pool.in_use == frozenset())
    again = rig.start(engine, "ALPHA")
    assert again is not alpha
    facts = rig.on_loop(again, again._orders.facts("SPY", "5s", again.executor.gates))
    assert (facts.buying, facts.held) == (1, 0), "an order of the earlier life counts as working"


def test_errors_at_bars_are_told_and_many_in_a_row_end_it(rig: Rig) -> None:
    source = SAYS.replace(
        "        bars = self.context", "        raise ValueError('bad bar')\n        bars = self.context"
    )
    rig.strategy("ALPHA", source, params={"interval": "60m"})  # so that no bar comes but the test's own
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    for _ in range(9):
        alpha.worker.notify("SPY", "60m")
    until(lambda: alpha.worker.get_metrics()["errors"] >= 9)
    assert run_state("ALPHA") == "running"
    alpha.worker.notify("SPY", "60m")
    until(lambda: run_state("ALPHA") == "failed")
    run = StrategyRun.objects.get(symbol="ALPHA")
    assert "10 bars in a row failed" in run.message
    assert "bad bar" in run.message
    assert "ValueError" in run.traceback


def test_sys_exit_in_a_bar_ends_it_alone(rig: Rig) -> None:
    source = SAYS.replace("        bars = self.context", "        raise SystemExit(4)\n        bars = self.context")
    rig.strategy("ALPHA", source)
    says(rig, "BETA")
    engine = rig.engine()
    rig.do("start_strategy", symbol="ALPHA")
    beta = rig.start(engine, "BETA")
    until(lambda: run_state("ALPHA") == "failed", 30.0)
    seen = len(beta.reactive.seen)
    until(lambda: len(beta.reactive.seen) > seen, 20.0)
    assert run_state("BETA") == "running"


def test_strategy_that_hangs_holds_up_nobody_on_its_connection_and_is_shown_as_silent(rig: Rig) -> None:
    source = SAYS.replace(
        "        bars = self.context", "        self.may_go.wait(60)\n        bars = self.context"
    ).replace("self.seen, ", "self.may_go = __import__('threading').Event()\n        self.seen, ")
    rig.strategy("ALPHA", source)
    says(rig, "BETA")
    engine = rig.engine()
    alpha, beta = rig.start(engine, "ALPHA"), rig.start(engine, "BETA")
    assert alpha.home is beta.home
    until(lambda: "does not answer" in StrategyRun.objects.get(symbol="ALPHA").message, 30.0, "the page says so")
    seen = len(beta.reactive.seen)
    until(lambda: len(beta.reactive.seen) > seen, 20.0, "the neighbour goes on")
    assert isinstance(alpha.reactive.may_go, threading.Event)
    alpha.reactive.may_go.set()
    until(lambda: "does not answer" not in StrategyRun.objects.get(symbol="ALPHA").message, 20.0)


def test_setup_that_says_no_fails_the_start_with_a_reason(rig: Rig) -> None:
    rig.strategy("ALPHA", SAYS.replace("return super().setup(context)", "return False"))
    rig.engine()
    command = rig.do("start_strategy", symbol="ALPHA")
    assert command.state == "failed"
    assert "setup returned False" in command.error


def test_no_line_left_refuses_the_start_and_says_what_to_do(rig: Rig) -> None:
    says(rig, "ALPHA")
    says(rig, "BETA", params={"symbols": ["QQQ"]})
    engine = rig.engine()
    rig.start(engine, "ALPHA")
    engine.budget.max_lines = line_count(engine)
    command = rig.do("start_strategy", symbol="BETA")
    assert command.state == "failed"
    assert "No market data line is left for QQQ" in command.error
    assert run_state("ALPHA") == "running"


def test_bars_go_on_without_a_hole_after_the_gateway_was_away(rig: Rig) -> None:
    says(rig, "ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    until(lambda: len(alpha.reactive.seen) >= 2, 30.0)
    rig.stop_server()
    until(lambda: not engine.gate.is_open)
    rig.start_server()
    assert engine.gate.wait_open(30.0)
    seen = len(alpha.reactive.seen)
    until(lambda: len(alpha.reactive.seen) >= seen + 3, 60.0, "bars after the outage")
    series = alpha._live_data.get_bars_ref("SPY", "5s")
    assert all(step == 5_000_000_000 for step in (series.starts[1:] - series.starts[:-1]).tolist())
    assert run_state("ALPHA") == "running"


def test_bars_that_fall_silent_though_ib_kept_them_are_asked_for_again_and_filled_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("QUIET_S", 6.0), ("LOOK_S", 0.1)):
        monkeypatch.setattr(silence, name, value)
    says(rig, "ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    until(lambda: len(alpha.reactive.seen) >= 1, 30.0)
    now = datetime.now(UTC)
    always = (now - timedelta(hours=1), now + timedelta(hours=1))
    # Only silence of an open market means something.
    engine.risk.hours.put(alpha._followed["SPY"].con_id, (always,), now)
    rig.gateway.fault("outage 0.2 data=dead")
    until(lambda: not engine.gate.is_open, what="the outage begins")
    assert engine.gate.wait_open(20)
    seen = len(alpha.reactive.seen)
    until(lambda: len(alpha.reactive.seen) >= seen + 2, 60.0, "bars of the line that was asked for again")
    series = alpha._live_data.get_bars_ref("SPY", "5s")
    assert all(step == 5_000_000_000 for step in (series.starts[1:] - series.starts[:-1]).tolist())
    assert lines_at_the_gateway(rig) == [alpha._followed["SPY"].con_id]


def test_example_of_the_docs_works_when_it_is_copied(rig: Rig) -> None:
    page = (Path(__file__).parents[3] / "docs" / "strategies.md").read_text(encoding="utf-8")
    [code] = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "on_bars" in block]
    (rig.folder / "above_average.py").write_text(code, encoding="utf-8")
    fields = {"symbol": "ALPHA", "filename": "above_average.py", "target_weight": Decimal("0.3"), "max_weight": 1}
    # The page says so: the paper gateway never closes. 5s spares a minute.
    save_strategy({**fields, "params": {"regular_hours": False, "interval": "5s"}}, None)
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    until(lambda: alpha.executor.figures.traded + alpha.executor.figures.idle >= 3, 40.0, "a signal at each of 3 bars")
    figures = alpha.figures()
    assert (figures["metrics"]["errors"], figures["signals"]["refused"]) == (0, 0), figures
    rig.assert_books_equal_broker()


def test_margin_is_asked_for_what_it_follows_before_it_starts(rig: Rig) -> None:
    says(rig, "ALPHA", weight="0.2", params={"symbols": ["SPY", "TLT"]})
    rig.engine()
    plan = rig.result(rig.do("start_strategy", symbol="ALPHA"))["margin"]
    assert (plan["known"], plan["basis"], plan["refused"]) == (True, "universe", None)
    assert [line["symbol"] for line in plan["positions"]] == ["SPY", "TLT"]


ARRAYS = """
import numpy as np
from strategies.params import ReactiveParams
from strategies.reactive import ArrayStrategy, SignalArrays

class Params(ReactiveParams):
    regular_hours: bool = False
    symbols: list[str] = ["SPY"]
    target: int = 10

class ArraysStrategy(ArrayStrategy):
    params_model = Params
    def get_subscriptions(self):
        return [(symbol, "5s") for symbol in self.config["symbols"]]
    def signals_as_arrays(self, bars):
        return SignalArrays(np.full(len(bars), float(self.config["target"])))
"""


def test_target_position_is_not_traded_again_after_a_restart_and_not_forgotten(rig: Rig) -> None:
    rig.strategy("ALPHA", ARRAYS, weight="0.3")
    engine = rig.engine()
    rig.start(engine, "ALPHA")
    until(lambda: position("ALPHA", "SPY") == 10, 30.0, "the target")
    assert rig.do("stop_strategy", symbol="ALPHA").state == "done"
    again = rig.start(engine, "ALPHA")
    until(lambda: again.executor.figures.idle == 1, 30.0, "its first signal of this life")
    assert Order.objects.filter(owner="ALPHA").count() == 1
    assert rig.do("stop_strategy", symbol="ALPHA").state == "done"
    save_strategy({"symbol": "ALPHA", "params": {"target": 0}}, None)
    rig.start(engine, "ALPHA")
    until(lambda: position("ALPHA", "SPY") == 0, 30.0, "flat")
    rig.assert_books_equal_broker()
