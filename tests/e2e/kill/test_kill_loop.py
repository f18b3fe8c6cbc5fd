"""SIGKILL the engine on every step of the fill path, again and again; then compare the books with the gateway's truth.

The gateway runs in a process of its own and keeps filling while the engine is dead. After the last kill one engine
starts cleanly, folds the day and stops; nothing may be lost, doubled or sent twice.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from strategies.crashpoints import POINTS
from tests.support.gateway_process import GatewayProcess, Truth

ROOT = Path(__file__).resolve().parents[3]
KILLS = int(os.environ.get("MATS_KILLS", "200"))
PROOF_KILLS = int(os.environ.get("MATS_PROOF_KILLS", "2000"))
SEED = int(os.environ.get("MATS_KILL_SEED", "7"))

pytestmark = [pytest.mark.kill, pytest.mark.e2e, pytest.mark.xdist_group("kill")]


class Engines:
    """The zygote and the engine it forked last."""

    def __init__(self, home: Path, gateway_port: int) -> None:
        self.home = home
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "mats_site.settings",
            "MATS_HOME": str(home),
            "DATABASE_URL": f"sqlite:///{home / 'mats.sqlite3'}",
            "MATS_ARCTIC_URI": f"lmdb://{home / 'arctic'}?map_size=2GB",
            "MATS_IB_PORT": str(gateway_port),
            "MATS_STRATEGY_PATH": str(Path(__file__).parent),
            "MATS_STOP_TIMEOUT_S": "5",
            "MATS_EQUITY_INTERVAL_S": "2",
            "MATS_LOG_LEVEL": "WARNING",
        }
        self.zygote: subprocess.Popen[str] | None = None

    def manage(self, *args: str) -> str:
        command = [sys.executable, "manage.py", *args]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, text=True, capture_output=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def open(self) -> None:
        self.zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.support.engine_zygote"],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self._answer(60)["ready"]

    def close(self) -> None:
        assert self.zygote is not None
        assert self.zygote.stdin is not None
        self.zygote.stdin.close()
        self.zygote.wait(20)

    def fork(self, *, crash_at: str = "", args: tuple[str, ...] = ()) -> int:
        assert self.zygote is not None
        assert self.zygote.stdin is not None
        self.zygote.stdin.write(json.dumps({"env": {"MATS_CRASH_AT": crash_at}, "args": list(args)}) + "\n")
        pid: int = self._answer(20)["pid"]
        return pid

    def wait_end(self, pid: int, timeout_s: float) -> int | None:
        """Return the wait status, or None when it still runs."""
        answer = self._line(timeout_s)
        if answer is None:
            return None
        assert answer["pid"] == pid
        status: int = answer["status"]
        return status

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        answer = self._line(timeout_s)
        assert answer is not None, "the zygote did not answer"
        return answer

    def _line(self, timeout_s: float) -> dict[str, Any] | None:
        assert self.zygote is not None
        assert self.zygote.stdout is not None
        ready, _, _ = select.select([self.zygote.stdout], [], [], timeout_s)
        if not ready:
            return None
        answer: dict[str, Any] = json.loads(self.zygote.stdout.readline())
        return answer

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(f"file:{self.home / 'mats.sqlite3'}?mode=ro", uri=True, timeout=20)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def is_running(self, pid: int) -> bool:
        """Tell whether that engine holds the lease and has reconciled."""
        ((holder, status),) = self.query("select holder, status from trading_enginelease")
        return f":{pid}:" in holder and json.loads(status).get("state") == "running"

    def log(self) -> str:
        path = self.home / "engine.out"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[tuple[Engines, GatewayProcess]]:
    with GatewayProcess(commission_delay_s=0.02, server={"max_messages_per_s": 0}) as gateway:
        made = Engines(tmp_path, gateway.port)
        made.manage("migrate", "-v0")
        made.manage("shell", "-c", ADD_STRATEGY)
        made.open()
        yield made, gateway
        made.close()


ADD_STRATEGY = (
    "from strategies.services import save_strategy; "
    "save_strategy({'symbol': 'CHURN', 'filename': 'churn_strategy.py', 'active': True, 'target_weight': '0.5', "
    "'max_restarts_per_hour': 100}, user=None)"
)


def kill_many(engines: Engines, kills: int, rng: random.Random) -> dict[str, int]:
    """Start and SIGKILL an engine ``kills`` times; return how often each point was the end."""
    ends: dict[str, int] = {}
    for turn in range(kills):
        point = "" if turn % 5 == 4 else POINTS[turn * 13 % len(POINTS)]  # 13: coprime to both, so all meet
        crash_at = f"{point}:{rng.randint(1, 12)}" if point else ""
        pid = engines.fork(crash_at=crash_at)
        status = engines.wait_end(pid, 6.0 if point else rng.uniform(0.3, 2.5))
        if status is None:
            os.kill(pid, signal.SIGKILL)
            status = engines.wait_end(pid, 20)
            point = "random"
        assert status is not None
        assert os.WIFSIGNALED(status), f"the engine ended by itself: {status}\n{engines.log()}"
        assert os.WTERMSIG(status) == signal.SIGKILL
        ends[point] = ends.get(point, 0) + 1
    return ends


def settle(engines: Engines, gateway: GatewayProcess) -> Truth:
    """Run one engine without trading until its ledger holds what the gateway knows, then stop it cleanly."""
    pid = engines.fork(args=("--no-autostart",))
    deadline = time.monotonic() + 60
    while True:
        truth = gateway.truth()
        recorded = engines.query("select count(*), count(commission) from portfolio_execution")[0]
        complete = len(truth.commissions) == len(truth.executions)
        if complete and recorded == (len(truth.executions),) * 2 and engines.is_running(pid):
            break
        assert time.monotonic() < deadline, (recorded, len(truth.executions), len(truth.commissions), engines.log())
        time.sleep(0.1)
    os.kill(pid, signal.SIGTERM)
    status = engines.wait_end(pid, 60)
    assert status == 0, engines.log()
    return gateway.truth()


def compare(engines: Engines, truth: Truth) -> None:
    """Every book of the ledger against the gateway."""
    recorded = {
        row[0]: (row[1], Decimal(str(row[2])), Decimal(str(row[3])), row[4])
        for row in engines.query("select exec_id, instrument_id, quantity, price, owner from portfolio_execution")
    }
    assert recorded.keys() == truth.executions.keys()
    for exec_id, (con_id, quantity, price, owner) in recorded.items():
        fact = truth.executions[exec_id]
        sign = 1 if fact["side"] == "BOT" else -1
        assert (con_id, quantity, price) == (fact["con_id"], sign * fact["quantity"], fact["price"])
        assert owner == "CHURN"
    held = engines.query("select instrument_id, sum(quantity) from portfolio_position group by 1")
    assert {con_id: Decimal(str(q)) for con_id, q in held if q} == truth.positions
    cash = engines.query("select currency, sum(amount) from portfolio_cashbalance group by 1")
    assert {currency: round(Decimal(str(amount)), 2) for currency, amount in cash} == {
        currency: round(amount, 2) for currency, amount in truth.cash.items()
    }
    assert max(truth.received.values()) == 1, "an order was sent twice"
    assert engines.query("select count(*) from portfolio_break where state = 'open'") == [(0,)]


def run_proof(engines: Engines, gateway: GatewayProcess, kills: int) -> None:
    rng = random.Random(SEED)
    ends = kill_many(engines, kills, rng)
    truth = settle(engines, gateway)
    compare(engines, truth)
    engines.manage("verify_ledger")
    orders = len(truth.received)
    print(f"\n{kills} kills (seed {SEED}), {orders} orders, {len(truth.executions)} fills: 0 lost, 0 doubled, 0 resent")
    print("ends:", json.dumps(ends))
    assert orders > kills / 4, "the strategy hardly traded: the proof would be empty"
    missed = set(POINTS) - ends.keys()
    assert not missed, f"points never reached: {missed}"


@pytest.mark.timeout(900)
def test_books_equal_the_gateway_after_kills_at_every_step(engines: tuple[Engines, GatewayProcess]) -> None:
    run_proof(*engines, KILLS)


@pytest.mark.proof
@pytest.mark.timeout(7200)
def test_books_equal_the_gateway_after_thousands_of_kills(engines: tuple[Engines, GatewayProcess]) -> None:
    run_proof(*engines, PROOF_KILLS)
