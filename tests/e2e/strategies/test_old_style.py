"""A file of the old template, unmodified, on the real paper gateway; and the seeds' names on the real engine."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from decimal import Decimal

import pandas as pd
import pytest
from ib_async import Contract, Execution, Fill
from ib_async.objects import CommissionReport

from portfolio.models import Execution as Booked
from strategies.services import save_strategy
from tests.e2e.engine.harness import Rig, position, run_state, until
from trading.models import EngineEvent, Order, StrategyRun

pytestmark = pytest.mark.e2e


def lines(symbol: str) -> list[str]:
    """Return what stands on a strategy's log panel."""
    found = EngineEvent.objects.filter(kind="log", strategy=symbol).order_by("id")
    assert all(event.payload["strategy"] == symbol for event in found)
    return [event.payload["text"] for event in found]


def test_old_file_buys_once_and_its_row_owns_the_fill(rig: Rig) -> None:
    save_strategy({"symbol": "VETERAN", "filename": "old_style.py", "target_weight": "0.1"}, None)
    engine = rig.engine()
    old = rig.start(engine, "VETERAN")
    until(lambda: Booked.objects.filter(owner="VETERAN").exists())
    until(lambda: "Order for one SPY: Filled" in lines("VETERAN"))
    assert old.old.strategy_manager.strategy_loops == {old.client_id: old._loop}
    assert engine.strategy_loops == {old.client_id: old._loop}
    assert engine.strategy_threads == [old._thread]
    until(lambda: StrategyRun.objects.get(symbol="VETERAN").heartbeat_at is not None)
    assert rig.do("stop_strategy", symbol="VETERAN").state == "done"
    rig.start(engine, "VETERAN")  # it holds its share already
    assert rig.do("stop_strategy", symbol="VETERAN").state == "done"
    [order] = Order.objects.all()
    assert (order.owner, order.order_ref.split("/")[0], order.state) == ("VETERAN", "VETERAN", "filled")
    assert not Booked.objects.exclude(owner="VETERAN").exists()
    rig.assert_books_equal_broker()


READER = """
import asyncio

class Strategy:
    def __init__(self, client_id, strategy_manager):
        self.ib_client = connect_to_IB(clientid=client_id)
        self.frame = strategy_manager.data_manager.get_data_from_arctic("market_data", "AAPL")
        self.equity = strategy_manager.portfolio_manager.get_total_equity()

    async def run_strategy(self):
        raise ValueError(f"{len(self.frame)} rows, connected {self.ib_client.isConnected()}, {self.equity > 0}")

def manage_strategy(client_id, strategy_manager, strategy_loops):
    try:
        asyncio.run(Strategy(client_id, strategy_manager).run_strategy())
    except Exception as error:
        print(error)
"""


def test_old_file_reads_data_and_books_and_its_swallowed_failure_is_told(rig: Rig) -> None:
    rig.strategy("READER", READER)
    engine = rig.engine()
    engine.ac.library("market_data").write("AAPL", pd.DataFrame({"close": [1.0, 2.0, 3.0]}))
    rig.do("start_strategy", symbol="READER")
    until(lambda: run_state("READER") == "failed")
    row = StrategyRun.objects.get(symbol="READER")
    assert row.message == "ValueError: 3 rows, connected True, True"
    assert "run_strategy" in row.traceback
    assert engine.pool.in_use == frozenset()


def test_names_of_the_seeds_work_on_the_engine(rig: Rig) -> None:
    rig.strategy("ALPHA", active=True)
    broken = rig.strategy("BROKEN", active=True)
    (rig.folder / broken.filename).write_text("1/0\n")
    engine = rig.engine(autostart=False)
    assert engine.clientId == 0
    assert engine.ib_client.isConnected()
    assert [module.__file__ for module in engine.load_strategies()] == [str(rig.folder / "alpha_file.py")]
    assert [module.IdleStrategy.__name__ for module in engine.strategies] == ["IdleStrategy"]
    assert run_state("ALPHA") == "stopped"
    until(lambda: any("Cannot load BROKEN" in line for line in lines("BROKEN")))
    assert engine.start_all() == {"ALPHA": True, "BROKEN": False}
    until(lambda: run_state("ALPHA") == "running")
    assert list(engine.strategy_loops) == [1]
    assert [isinstance(thread, threading.Thread) for thread in engine.strategy_threads] == [True]
    ticket = rig.trade(engine.active_strategies["ALPHA"], "SPY", 1)
    engine.notify_order_placement("ALPHA", ticket.trade)
    fill = ticket.trade.fills[0]
    engine.handle_fill_event("ALPHA", ticket.trade, fill)  # known already
    engine.handle_message({"type": "log", "strategy": "ALPHA", "trade": None, "text": "hello", "level": "info"})
    engine.process_messages()
    assert "hello" in lines("ALPHA")
    assert position("ALPHA", "SPY") == 1
    assert engine.stop_all() == {"ALPHA": True}
    assert engine.strategy_threads == []


def test_a_fill_handed_in_by_name_is_booked(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = rig.engine()
    known = rig.trade(rig.start(engine, "ALPHA"), "SPY", 1)
    first = known.trade.fills[0]
    execution = Execution(
        execId="0000abcd.00000001.01.01",
        time=datetime.now(UTC),
        acctNumber=first.execution.acctNumber,
        side="BOT",
        shares=2.0,
        price=first.execution.price,
        orderRef=known.order_ref,
        permId=first.execution.permId,
    )
    contract: Contract = first.contract
    engine.handle_fill_event("ALPHA", None, Fill(contract, execution, CommissionReport(), execution.time))
    assert Booked.objects.get(exec_id=execution.execId).owner == "ALPHA"
    assert position("ALPHA", "SPY") == Decimal(3)
