"""Files of the old template, unmodified, with the life of every other strategy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ib_async import Contract, LimitOrder

from strategies import life
from strategies.attribution import current_strategy
from strategies.exceptions import LoadError, OrderDeniedError
from strategies.legacy import OldStyleStrategy
from strategies.loader import inspect_file, load_strategy_class
from tests.unit.strategies.fakes import CON_IDS, FakeEngine, wait_until

ENTRY = """
def manage_strategy(client_id, strategy_manager, strategy_loops):
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    strategy_loops[client_id] = loop
    strategy = Strategy(client_id, strategy_manager)
    loop.run_until_complete(strategy.run_strategy())
"""

SOURCE = '''"""An old file."""
import asyncio
from ib_async import LimitOrder, MarketOrder, Stock

PARAMS = {{"length": 3}}

class Strategy:
    def __init__(self, client_id, strategy_manager):
        self.client_id = client_id
        self.strategy_manager = strategy_manager
        self.strategy_name = "SOMEBODY_ELSE"
        self.ib_client = connect_to_IB(clientid=client_id)
        self.connected_at_birth = self.ib_client.isConnected()

    async def run_strategy(self):
{body}
'''

FOREVER = "while True: await asyncio.sleep(0.01)"
Start = Callable[..., Any]


def source(body: str = FOREVER, entry: str = ENTRY) -> str:
    lines = "\n".join(f"        {line}" for line in body.strip().splitlines())
    return SOURCE.format(body=lines) + entry


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def start(engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr(life, "DRAIN_POLL_S", 0.01)
    monkeypatch.setattr(life, "UNWIND_S", 0.3)
    started: list[Any] = []

    def begin(text: str, wait_for: str = "running", **params: Any) -> Any:
        (tmp_path / "old.py").write_text(text)
        cls: Any = load_strategy_class("old.py", [tmp_path]).cls
        strategy = cls(7, engine, params, strategy_symbol="ROW")
        started.append(strategy)
        strategy.start_strategy()
        wait_until(lambda: engine.state() == wait_for, f"state {wait_for}, got {engine.states} {engine.traceback}")
        return strategy

    yield begin
    for strategy in started:
        strategy.stop_strategy(0.1)


def code_of(text: str, folder: Path) -> str:
    (folder / "odd.py").write_text(text)
    with pytest.raises(LoadError) as caught:
        load_strategy_class("odd.py", [folder])
    return caught.value.code


def test_old_file_is_recognised_by_loading_and_by_reading(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text(source())
    loaded = load_strategy_class("old.py", [tmp_path])
    facts = inspect_file("old.py", [tmp_path])
    assert issubclass(loaded.cls, OldStyleStrategy)
    assert (facts.class_name, facts.kind) == (loaded.cls.__name__, loaded.kind) == ("Strategy", "imperative")
    assert loaded.params == facts.params == {"length": 3}


@pytest.mark.parametrize(
    "text",
    [
        source(entry=""),
        "def manage_strategy(client_id, strategy_manager, strategy_loops): ...",
        source().replace("async def run_strategy", "async def run"),
        "class Strategy:\n    def run_strategy(self): ...\n" + ENTRY,
    ],
)
def test_half_of_an_old_file_is_refused(tmp_path: Path, text: str) -> None:
    assert code_of(text, tmp_path) == "no_class"


def test_own_base_strategy_wins_over_the_old_form(tmp_path: Path) -> None:
    new = "from strategies.base import BaseStrategy\nclass NewStrategy(BaseStrategy):\n"
    new += "    async def initialize_strategy(self): ...\n    async def run_strategy(self): ...\n"
    (tmp_path / "both.py").write_text(new + source())
    assert load_strategy_class("both.py", [tmp_path]).cls.__name__ == "NewStrategy"
    assert inspect_file("both.py", [tmp_path]).class_name == "NewStrategy"


def test_life_is_that_of_every_strategy(engine: FakeEngine, start: Start) -> None:
    strategy = start(source())
    assert strategy.old.connected_at_birth
    assert strategy.old.ib_client is engine.ib
    assert strategy._facade.strategy_loops == {7: strategy._loop}
    wait_until(lambda: engine.beats > 0)
    assert strategy.stop_strategy(1)
    assert [state for state, _ in engine.states] == ["running", "stopping", "stopped"]
    assert engine.ib.disconnects == 1
    assert strategy._loop.is_closed()


def test_return_finishes_it(engine: FakeEngine, start: Start) -> None:
    start(source("return"), wait_for="stopped")
    assert engine.states[-1] == ("stopped", "finished")


SWALLOW = ENTRY.replace(
    "    loop.run_until_complete(strategy.run_strategy())",
    "    while True:\n        try:\n            loop.run_until_complete(strategy.run_strategy())\n"
    "        except Exception:\n            pass",
)


def test_failure_is_told_although_the_file_swallows_it_and_tries_again(engine: FakeEngine, start: Start) -> None:
    strategy = start(source("raise ValueError('broken rule')", SWALLOW), wait_for="failed")
    assert engine.states[-1] == ("failed", "ValueError: broken rule")
    assert "run_strategy" in engine.traceback
    wait_until(lambda: not strategy.is_alive)


def test_constructor_and_entry_that_break_fail_it_alone(engine: FakeEngine, start: Start) -> None:
    start(source().replace('"SOMEBODY_ELSE"', "1 / 0"), wait_for="failed")
    assert engine.states[-1][1].startswith("ZeroDivisionError")
    start(source(entry="\ndef manage_strategy(client_id, manager, loops):\n    1 / 0\n"), wait_for="failed")
    assert engine.states[-1][1].startswith("ZeroDivisionError")


def test_entry_that_runs_nothing_is_a_failure(engine: FakeEngine, start: Start) -> None:
    start(source(entry="\ndef manage_strategy(client_id, manager, loops):\n    pass\n"), wait_for="failed")
    assert "without running" in engine.states[-1][1]


def test_entry_may_use_asyncio_run(engine: FakeEngine, start: Start) -> None:
    entry = "\ndef manage_strategy(c, m, loops):\n    asyncio.run(Strategy(c, m).run_strategy())\n"
    strategy = start(source(entry=entry))
    assert strategy.stop_strategy(1)
    assert engine.states[-1] == ("stopped", "")


BUY = """
contract = Stock("SPY", "SMART", "USD")
self.trade = self.strategy_manager.trade_manager.place_order(contract, MarketOrder("BUY", 2), self.strategy_name)
self.held = self.strategy_manager.portfolio_manager.get_positions()
while not self.trade.isDone(): await asyncio.sleep(0.01)
self.ticket = await self.trade
self.held = self.strategy_manager.portfolio_manager.get_positions()
while True: await asyncio.sleep(0.01)
"""


def test_order_goes_through_its_own_broker_for_its_own_row(engine: FakeEngine, start: Start) -> None:
    strategy = start(source(BUY))
    wait_until(lambda: getattr(strategy.old, "held", None), str(engine.traceback))
    [ticket] = engine.orders()
    assert ticket.order_ref.startswith("ROW/")
    assert strategy.old.ticket is ticket
    assert not strategy.old.trade.isActive()
    assert strategy.old.trade.orderStatus is ticket.trade.orderStatus
    assert [(row.symbol, row.quantity) for row in strategy.old.held] == [("SPY", 2)]


def test_order_from_another_thread_waits_for_the_broker(engine: FakeEngine, start: Start) -> None:
    strategy = start(source())
    contract = Contract(conId=CON_IDS["SPY"], symbol="SPY", exchange="SMART", secType="STK", currency="USD")
    manager = strategy.old.strategy_manager.trade_manager
    assert engine.broker is not None
    engine.broker.fills_at_once = False
    placed = manager.place_order(contract, LimitOrder("BUY", 1, 5.0), "X")
    assert placed.ticket is engine.orders()[0]
    assert placed.isActive()
    engine.orders()[0].order.orderRef = engine.orders()[0].order_ref
    manager.cancel_order(engine.orders()[0].order)
    assert placed.isDone()


def test_denied_order_is_told_once_and_done(engine: FakeEngine, start: Start) -> None:
    body = BUY.replace('"SPY"', '"NOBODY"').replace("self.ticket = await self.trade", "")
    strategy = start(source(body))
    wait_until(lambda: engine.lines)
    wait_until(lambda: strategy.old.trade.isDone())
    assert [level for level, text in engine.lines if text.startswith("Order denied: ")] == ["warning"]
    assert strategy.old.trade.ticket is None
    with pytest.raises(OrderDeniedError):
        asyncio.run(strategy._place_old(Contract(symbol="NOBODY"), strategy.old.trade.order))


def test_engine_is_reached_through_the_facade(engine: FakeEngine, start: Start) -> None:
    frames = SimpleNamespace(get_data_from_arctic=lambda library, symbol: (library, symbol))
    engine.data_manager = frames  # type: ignore[attr-defined]
    strategy = start(source())
    manager = strategy.old.strategy_manager
    assert manager.data_manager.get_data_from_arctic("market_data", "AAPL") == ("market_data", "AAPL")
    assert manager.portfolio_manager.base_currency == "USD"
    assert manager.portfolio_manager.calculate_strategy_equity("ROW") == engine.portfolio_manager.equity


def test_rows_parameters_reach_the_files_own_dict(engine: FakeEngine, start: Start) -> None:
    strategy = start(source(), length=5)
    assert strategy.old_module.PARAMS == {"length": 5}
    strategy.update_params({"length": 9})
    wait_until(lambda: strategy.old_module.PARAMS == {"length": 9})


def test_records_of_old_code_belong_to_its_row(start: Start) -> None:
    seen: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(f"{current_strategy()}: {record.getMessage()}")

    listener = Listener()
    logging.getLogger("old_file").addHandler(listener)
    body = "import logging\nlog = logging.getLogger('old_file')\nlog.warning('here')\n"
    body += "await asyncio.to_thread(log.warning, 'there')"
    start(source(body), wait_for="stopped")
    logging.getLogger("old_file").removeHandler(listener)
    assert seen == ["ROW: here", "ROW: there"]
    assert current_strategy() == ""
