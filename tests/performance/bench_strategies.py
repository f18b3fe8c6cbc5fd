"""``make bench``, reactive strategies: from a bar to ``on_bars``, beside bare queues that wake as many threads.

The floor hands one item to each of as many threads through a ``SimpleQueue`` of its own, in the same process and the
same minute: what is above it is counting, routing and waiting.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from strategies.loader import LoadedStrategy
from strategies.reactive import ReactiveStrategy, Signal, StrategyConfig
from tests.performance.figures import Latency, Row, commit, table
from trading.market.dispatcher import StrategyDispatcher

TURNS = 1_000
WARM_UP = 50
SPACING_S = 0.002  # a bar at a time, as markets bring them: a queue that never empties would measure throughput
COUNTS = (5, 50)
MODES = {"live": ("live", 0.0), "clock-driven": ("backtest", 60.0)}
PAIR = ("AAPL", "1m")


class Noting(ReactiveStrategy):
    """Notes when it was told."""

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        super().__init__(name, config)
        self.told: list[int] = []

    def get_subscriptions(self) -> list[tuple[str, str]]:
        return [PAIR]

    def on_bars(self, symbol: str, interval: str) -> list[Signal] | None:
        self.told.append(time.perf_counter_ns())
        return None


def running(count: int, mode: str, cls: type[ReactiveStrategy] = Noting) -> StrategyDispatcher:
    """Return a dispatcher with so many strategies at work."""
    value, speed = MODES.get(mode, ("backtest", 0.0))
    system = SimpleNamespace(
        mode=SimpleNamespace(value=value),
        session_config=SimpleNamespace(
            session_data_config=SimpleNamespace(strategies=[StrategyConfig(f"s{number}") for number in range(count)]),
            backtest_config=SimpleNamespace(speed_multiplier=speed),
        ),
        get_session_data=lambda: None,
        get_time_manager=lambda: None,
    )
    loaded = LoadedStrategy(cls, None, None, "", {}, None, "reactive")  # type: ignore[arg-type]
    logging.getLogger("trading.market.dispatcher").setLevel(logging.ERROR)  # all are of one class
    dispatcher = StrategyDispatcher(system, load=lambda module: loaded, queue_size=10_000)
    assert dispatcher.initialize(), dispatcher.failure
    assert dispatcher.start_strategies(), dispatcher.failure
    return dispatcher


def notify_latency(count: int, mode: str, turns: int = TURNS) -> Latency:
    """Measure how long after a bar's notification each strategy is told."""
    dispatcher = running(count, mode)
    sent = []
    for _ in range(turns + WARM_UP):
        sent.append(time.perf_counter_ns())
        dispatcher.notify_strategies(*PAIR)
        assert dispatcher.wait_for_strategies(10.0)
        time.sleep(SPACING_S)
    strategies = [thread.strategy for thread in dispatcher._strategy_threads]
    dispatcher.shutdown()
    found = []
    for strategy in strategies:
        assert isinstance(strategy, Noting)
        assert len(strategy.told) == len(sent), "a notification was lost"
        found += [told - at for told, at in zip(strategy.told[WARM_UP:], sent[WARM_UP:], strict=True)]
    return Latency.of_ns(found)


def bare_latency(count: int, turns: int = TURNS) -> Latency:
    """Measure the same with bare queues: one item to each thread, then wait until all have had it."""
    queues: list[queue.SimpleQueue[int]] = [queue.SimpleQueue() for _ in range(count)]
    told: list[list[int]] = [[] for _ in range(count)]
    done: queue.SimpleQueue[None] = queue.SimpleQueue()

    def work(mine: queue.SimpleQueue[int], notes: list[int]) -> None:
        while mine.get():
            notes.append(time.perf_counter_ns())
            done.put(None)

    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in zip(queues, told, strict=True)]
    for thread in threads:
        thread.start()
    sent = []
    for _ in range(turns + WARM_UP):
        sent.append(time.perf_counter_ns())
        for one in queues:
            one.put(1)
        for _ in queues:
            done.get()
        time.sleep(SPACING_S)
    for one in queues:
        one.put(0)
    for thread in threads:
        thread.join(5.0)
    pairs = [(at, began) for notes in told for at, began in zip(notes[WARM_UP:], sent[WARM_UP:], strict=True)]
    return Latency.of_ns([at - began for at, began in pairs])


def rows(turns: int = TURNS) -> list[Row]:
    """Measure every mode and count; each beside a floor measured right before it."""
    found = []
    for count in COUNTS:
        for mode in MODES:
            floor, ours = bare_latency(count, turns), notify_latency(count, mode, turns)
            name = f"bar → on_bars, {mode}, {count} strategies"
            found += [
                Row(f"{name} p50", ours.p50, "ms", f"{count} bare queues", floor.p50),
                Row(f"{name} p99", ours.p99, "ms", "same, p99", floor.p99, "< 1 ms"),
            ]
    return found


def main() -> None:
    """Print the report."""
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else TURNS
    print(f"Commit {commit()}, {os.cpu_count()} cores.\n\n{table(rows(turns))}")
    print(f"\nLoad of the machine in the last minute: {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
