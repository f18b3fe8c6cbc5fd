"""One round of the kill loop: start, stir, SIGKILL, again and again; then one clean engine, and the comparison."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from strategies.crashpoints import POINTS
from tests.e2e.kill.books import check_whole, compare
from tests.e2e.kill.churn import Churn
from tests.e2e.kill.engines import Engines
from tests.support.gateway_process import GatewayProcess, Truth

# How often an engine surely passes a point before its time is over; the others it passes with every order.
PASSES = {
    "snapshot": 1,
    "adjustment": 1,
    "audit": 1,
    "outcome": 1,
    "park": 1,
    "arctic_append": 1,
    "arctic": 3,
    "reconcile": 4,
}
# One of each kind of step, for the short round; `docs/proof.md` has the table.
ONE_OF_EACH = ("decode", "position", "commit", "event", "arctic_append", "intent_after", "ack", "adjustment")
REACHED_IN_S, RUNNING_IN_S = 4.0, 60.0
BOOT_S = 0.4
SETTLED_IN_S = 300.0


def plan(kills: int, points: Sequence[str], rng: random.Random) -> list[str]:
    """Return where each engine is to die: every point as often as any other, a fifth at any moment."""
    named = [points[turn % len(points)] for turn in range(kills - kills // 5)]
    turns = [*named, *[""] * (kills // 5)]
    rng.shuffle(turns)
    return turns


def kill_many(engines: Engines, churn: Churn, turns: Sequence[str], rng: random.Random) -> Counter[str]:
    """Start and SIGKILL one engine for each turn; return how often each point was the end."""
    ends: Counter[str] = Counter()
    begun = time.monotonic()
    for turn, point in enumerate(turns, 1):
        churn.stir(point)
        crash_at = f"{point}:{rng.randint(1, PASSES.get(point, 12))}" if point else ""
        ends[end_one(engines, churn, crash_at, rng)] += 1
        check_whole(engines)
        if turn % 50 == 0:
            rate = turn / (time.monotonic() - begun)
            print(f"  {turn} of {len(turns)} kills, {rate:.2f}/s", file=sys.stderr, flush=True)
    return ends


def end_one(engines: Engines, churn: Churn, crash_at: str, rng: random.Random) -> str:
    """Run one engine until it dies; return where it did."""
    pid = engines.fork(crash_at=crash_at)
    status = engines.wait_end(pid, BOOT_S)
    end = crash_at.partition(":")[0]
    if status is None:
        churn.stir()
        status = reached(engines, pid) if crash_at else engines.wait_end(pid, rng.uniform(0.0, 2.0))
    if status is None:
        os.kill(pid, signal.SIGKILL)
        status = engines.wait_end(pid, 20)
        end = "any moment"
    assert status is not None
    assert os.WIFSIGNALED(status), f"the engine ended by itself: {status}\n{engines.log()}"
    assert os.WTERMSIG(status) == signal.SIGKILL
    return end or "any moment"


def reached(engines: Engines, pid: int) -> int | None:
    """Wait for an engine to die at its point; it has its time from when orders may flow, however slow the machine."""
    hard = deadline = time.monotonic() + RUNNING_IN_S
    while time.monotonic() < deadline:
        status = engines.wait_end(pid, 0.25)
        if status is not None:
            return status
        if deadline == hard and engines.is_running(pid):
            deadline = min(hard, time.monotonic() + REACHED_IN_S)
    return None


def settle(engines: Engines, gateway: GatewayProcess, churn: Churn) -> Truth:
    """Run one engine without trading until nothing is open and a check finds no difference, then stop it cleanly."""
    churn.settle()
    pid = engines.fork(args=("--no-autostart",))
    deadline = time.monotonic() + SETTLED_IN_S
    said: dict[str, Any] = {}
    while True:
        is_done = churn.renew()
        state = _settled(engines, gateway, pid) if is_done else "commands are open"
        if not state:
            check = churn.ask("reconcile", {})
            while not churn.renew() and time.monotonic() < deadline:
                time.sleep(0.05)
            said = check.result
            if not any(said.get(what, True) for what in ("breaks", "cash_breaks", "cash_waiting", "unconfirmed")):
                break
        assert time.monotonic() < deadline, (state, said, engines.log())
        time.sleep(0.1)
    os.kill(pid, signal.SIGTERM)
    status = engines.wait_end(pid, 60)
    assert status == 0, engines.log()
    return gateway.truth()


def _settled(engines: Engines, gateway: GatewayProcess, pid: int) -> str:
    """Return what is still to come, empty when nothing is."""
    truth = gateway.truth()
    if len(truth.commissions) < len(truth.executions):
        return "commissions are not told yet"
    wanted = {exec_id for exec_id in truth.executions if truth.executions[exec_id]["price"]}
    known = {exec_id for (exec_id,) in engines.query("select exec_id from portfolio_execution")}
    if known < wanted:
        return f"{len(wanted - known)} executions are not booked"
    if engines.query("select 1 from portfolio_execution where superseded = 0 and commission is null limit 1"):
        return "commissions are not booked"
    return "" if engines.is_running(pid) else "the engine has not reconciled"


def run_round(engines: Engines, gateway: GatewayProcess, kills: int, seed: int, points: Sequence[str] = POINTS) -> None:
    """Run one round and print what it was; every point must be an end when kills are enough for all, else half."""
    print(f"\nkill loop: seed {seed}, {kills} kills", file=sys.stderr, flush=True)
    rng = random.Random(seed)
    churn = Churn(engines, gateway, random.Random(seed + 1_000_000))
    begun = time.monotonic()
    ends = kill_many(engines, churn, plan(kills, points, rng), rng)
    took = time.monotonic() - begun
    truth = settle(engines, gateway, churn)
    check_whole(engines)
    compare(engines, truth, churn)
    engines.manage("verify_ledger")
    orders = sum(1 for ref in truth.received if ref)
    print(
        f"seed {seed}: {kills} kills in {took:.0f} s, {orders} orders, {len(truth.executions)} executions:"
        f" 0 lost, 0 doubled, 0 resent; {json.dumps(churn.done)}\nends: {json.dumps(ends)}",
        file=sys.stderr,
        flush=True,
    )
    assert orders > kills / 4, "the strategy hardly traded: the proof would be empty"
    missed = set(points) - ends.keys()
    allowed = 0 if kills >= 5 * len(points) else max(len(points) // 2, len(points) - kills // 2)
    assert len(missed) <= allowed, f"points never reached: {missed}"
