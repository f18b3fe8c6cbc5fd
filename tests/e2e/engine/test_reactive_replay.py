"""The shipped moving-average cross on replayed bars: it trades, and survives a SIGKILL, to the cent."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from portfolio.models import CashBalance, Execution
from strategies.services import save_strategy
from tests.e2e.engine.conftest import mats_settings, rig
from tests.e2e.engine.harness import Rig, until
from tests.e2e.kill.books import check_whole, number
from tests.e2e.kill.engines import Engines
from tests.support.gateway_process import GatewayProcess, Truth
from trading.gateway.testing import RunningGateway, running_gateway

__all__ = ["mats_settings", "rig"]

pytestmark = pytest.mark.e2e

QUICK = {"symbols": ["SPY"], "interval": "5s", "fast_period": 1, "slow_period": 2, "regular_hours": False}
SIZES = {"FIRST": 7, "SECOND": 5}
ADD_BOTH = (
    "from strategies.models import Strategy; from strategies.services import save_strategy; "
    "Strategy.objects.all().delete(); "
    "[save_strategy({'symbol': symbol, 'filename': 'simple_ma_cross.py', 'active': True, 'target_weight': '0.3', "
    "'params': {**" + repr(QUICK) + ", 'quantity': size}}, user=None) "
    "for symbol, size in " + repr(SIZES) + ".items()]"
)


@pytest.fixture
def gateway() -> Iterator[RunningGateway]:
    """A paper gateway that replays the shipped minute bars, a minute per second."""
    with running_gateway(market="replay:sample", speed=60, commission_delay_s=0.02) as running:
        yield running


def test_cross_trades_on_replay_and_each_owns_its_fills_to_the_cent(rig: Rig) -> None:
    for symbol, size in SIZES.items():
        save_strategy(
            {
                "symbol": symbol,
                "filename": "simple_ma_cross.py",
                "target_weight": "0.3",
                "params": {**QUICK, "quantity": size},
            },
            None,
        )
    engine = rig.engine()
    started = [rig.start(engine, symbol) for symbol in SIZES]
    until(lambda: all(Execution.objects.filter(owner=owner).count() >= 3 for owner in SIZES), 120.0, "three fills each")
    for symbol in SIZES:
        assert rig.do("stop_strategy", symbol=symbol).state == "done"
    rig.assert_books_equal_broker()
    for owner, size in SIZES.items():
        rows = list(Execution.objects.filter(owner=owner).order_by("id"))
        assert {abs(row.quantity) for row in rows} == {Decimal(size)}
        sides = [row.quantity > 0 for row in rows]
        assert sides[0], "nothing is sold from flat"
        assert all(one is not following for one, following in pairwise(sides))
        flows = sum((-row.quantity * row.price - (row.commission or 0) for row in rows), Decimal(0))
        assert CashBalance.objects.get(owner=owner, currency="USD").amount == 300_000 + flows
    assert all(strategy.worker.get_metrics()["errors"] == 0 for strategy in started)
    assert all(strategy.executor.figures.as_dict()["traded"] >= 3 for strategy in started)


def soon(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        pause.wait(0.2)


@pytest.fixture
def killable(tmp_path: Path) -> Iterator[tuple[Engines, GatewayProcess]]:
    """A gateway that replays, and engines in processes of their own with both strategies active."""
    engines = Engines(tmp_path, 0)
    with GatewayProcess(
        market="replay:sample", speed=60, commission_delay_s=0.02, day_zone=engines.day_zone
    ) as gateway:
        engines.environment["MATS_IB_PORT"] = str(gateway.port)
        try:
            engines.open()
            engines.manage("shell", "-c", ADD_BOTH)
            yield engines, gateway
        finally:
            engines.close()


@pytest.mark.proof
@pytest.mark.kill
@pytest.mark.timeout(400)
def test_engine_killed_amid_trading_goes_on_after_its_restart_and_loses_nothing(
    killable: tuple[Engines, GatewayProcess],
) -> None:
    engines, gateway = killable
    first = engines.fork()
    soon(lambda: all(fills(engines, owner) for owner in SIZES), 120.0, engines.log())
    os.kill(first, signal.SIGKILL)
    assert engines.wait_end(first, 20.0) is not None
    before = {owner: fills(engines, owner) for owner in SIZES}
    second = engines.fork()
    soon(lambda: all(fills(engines, owner) > before[owner] for owner in SIZES), 120.0, engines.log())
    os.kill(second, signal.SIGTERM)
    assert engines.wait_end(second, 60.0) == 0, engines.log()
    check_whole(engines)
    compare(engines, gateway.truth())


def fills(engines: Engines, owner: str) -> int:
    return int(engines.query("select count(*) from portfolio_execution where owner = ?", (owner,))[0][0])


def compare(engines: Engines, truth: Truth) -> None:
    """Executions, owners, positions and cash of the ledger against the gateway."""
    rows = engines.query("select exec_id, owner, quantity, price, commission from portfolio_execution")
    assert {row[0] for row in rows} == set(truth.executions)
    held: dict[str, Decimal] = dict.fromkeys(SIZES, Decimal(0))
    flows: dict[str, Decimal] = dict.fromkeys(SIZES, Decimal(0))
    for exec_id, owner, quantity, price, commission in rows:
        assert owner == truth.executions[exec_id]["order_ref"].partition("/")[0]
        assert number(commission) == truth.commissions[exec_id]
        held[owner] += number(quantity)
        flows[owner] -= number(quantity) * number(price) + number(commission)
    assert sum(held.values()) == sum(truth.positions.values(), Decimal(0))
    assert all(0 <= quantity <= SIZES[owner] for owner, quantity in held.items()), "never doubled, never short"
    for owner, amount in engines.query("select owner, amount from portfolio_cashbalance where currency = 'USD'"):
        if owner in SIZES:
            assert number(amount) == 300_000 + flows[owner]
    assert max(truth.received.values()) == 1, "an order was sent twice"
