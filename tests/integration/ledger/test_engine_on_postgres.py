"""An engine whose ledger is on PostgreSQL: killed, its server restarted and crashed under it, nothing lost or doubled.

Runs wherever the server's package is installed, whatever database the suite itself uses.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.kill.engines import Engines
from tests.support.gateway_process import GatewayProcess
from tests.support.postgres import Server

POINTS = ("begin", "fill", "position", "cash", "commit", "committed", "ring", "arctic")
PATIENCE_S = 90.0

pytestmark = [pytest.mark.kill, pytest.mark.e2e, pytest.mark.timeout(900)]
Rig = tuple[Engines, GatewayProcess, Server]


@pytest.fixture
def rig(tmp_path: Path, server: Server) -> Iterator[Rig]:
    engines = Engines(tmp_path, 0, url=server.create("mats"))
    venue = {"commission_delay_s": 0.02, "day_zone": engines.day_zone, "server": {"max_messages_per_s": 0}}
    with GatewayProcess(**venue) as gateway:
        engines.environment["MATS_IB_PORT"] = str(gateway.port)
        try:
            engines.open()
            yield engines, gateway, server
        finally:
            engines.close()


def until(is_so: Callable[[], bool], engines: Engines) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, engines.log()
        time.sleep(0.05)


def executions(engines: Engines) -> int:
    return int(engines.query("select count(*) from portfolio_execution")[0][0])


def trade_on(engines: Engines, count: int = 5) -> None:
    """Wait until the ledger holds some more executions than now."""
    before = executions(engines)
    until(lambda: executions(engines) >= before + count, engines)


def end(engines: Engines, gateway: GatewayProcess) -> None:
    """Let one engine catch up without trading, stop it in order, and compare every book with the gateway."""
    pid = engines.fork(args=("--no-autostart",))

    def _caught_up() -> bool:
        truth = gateway.truth()
        booked = engines.query("select count(*), count(commission) from portfolio_execution")[0]
        whole = len(truth.commissions) == len(truth.executions)
        return whole and booked == (len(truth.executions),) * 2 and engines.is_running(pid)

    until(_caught_up, engines)
    os.kill(pid, signal.SIGTERM)
    assert engines.wait_end(pid, 60) == 0, engines.log()
    compare(engines, gateway)
    engines.manage("verify_ledger")


def compare(engines: Engines, gateway: GatewayProcess) -> None:
    truth = gateway.truth()
    rows = engines.query("select exec_id, instrument_id, quantity, price, owner from portfolio_execution")
    assert {row[0] for row in rows} == truth.executions.keys()
    for exec_id, con_id, quantity, price, owner in rows:
        fact = truth.executions[exec_id]
        sign = 1 if fact["side"] == "BOT" else -1
        assert (con_id, quantity, price) == (fact["con_id"], sign * fact["quantity"], fact["price"])
        assert owner == "CHURN"
    held: dict[int, Any] = dict(engines.query("select instrument_id, sum(quantity) from portfolio_position group by 1"))
    assert {con_id: q for con_id, q in held.items() if q} == truth.positions
    ((cash,),) = engines.query("select sum(amount) from portfolio_cashbalance where currency = 'USD'")
    assert cash == cash.quantize(Decimal("1E-10"))
    assert round(cash, 2) == round(truth.cash["USD"], 2)
    assert max(truth.received.values()) == 1, "an order was sent twice"
    assert engines.query("select count(*) from portfolio_break where state = 'open'") == [(0,)]


@pytest.mark.proof
def test_engines_killed_at_every_step_lose_and_double_nothing(rig: Rig) -> None:
    engines, gateway, _ = rig
    ends = []
    for turn, point in enumerate(POINTS):
        pid = engines.fork(crash_at=f"{point}:{turn % 3 + 1}")
        status = engines.wait_end(pid, 60)
        if status is None:
            os.kill(pid, signal.SIGKILL)
            status = engines.wait_end(pid, 20)
        else:
            ends.append(point)
        assert status is not None
        assert os.WIFSIGNALED(status), f"the engine ended by itself: {status}\n{engines.log()}"
    assert len(ends) >= len(POINTS) // 2, f"only {ends} were reached"
    end(engines, gateway)


@pytest.mark.parametrize(
    ("how", "times"),
    [
        pytest.param(signal.SIGINT, 1, id="restarted"),
        pytest.param(signal.SIGINT, 3, id="restarted-again-and-again", marks=pytest.mark.proof),
        pytest.param(signal.SIGQUIT, 3, id="crashed", marks=pytest.mark.proof),
    ],
)
def test_a_server_that_goes_away_under_the_engine_delays_fills_and_loses_none(
    rig: Rig, how: signal.Signals, times: int
) -> None:
    engines, gateway, server = rig
    pid = engines.fork()
    trade_on(engines)
    for _ in range(times):
        server.stop(how)
        server.start()
        until(lambda: engines.is_running(pid), engines)
        trade_on(engines)
    assert engines.wait_end(pid, 0.0) is None, "the engine did not outlive its server's restart"
    os.kill(pid, signal.SIGKILL)
    assert engines.wait_end(pid, 20) is not None
    end(engines, gateway)
