"""Figures of reactive strategies: throughput, memory and latency, each against a floor of the same minute."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Mapping
from typing import Any

import psutil
import pytest

from strategies.reactive import ReactiveStrategy, Signal
from tests.performance.bench_strategies import COUNTS, MODES, PAIR, bare_latency, notify_latency, running

pytestmark = pytest.mark.performance

NOTIFICATIONS = 10_000
MOST_GROWTH_MB = 100.0
SLACK = 3.0  # ours ÷ floor, on a machine that has other work


class Counting(ReactiveStrategy):
    """Does as little as a strategy can."""

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        super().__init__(name, config)
        self.count = 0

    def get_subscriptions(self) -> list[tuple[str, str]]:
        return [PAIR]

    def on_bars(self, symbol: str, interval: str) -> list[Signal]:
        self.count += 1
        return []


def per_second(count: int, mode: str, turns: int) -> float:
    """Return strategy-notifications a second of a session that goes as fast as its strategies."""
    dispatcher = running(count, mode, Counting)
    began = time.perf_counter()
    for _ in range(turns):
        dispatcher.notify_strategies(*PAIR)
        assert dispatcher.wait_for_strategies(60.0)
    spent = time.perf_counter() - began
    metrics = dispatcher.get_metrics()
    dispatcher.shutdown()
    assert metrics["total_notifications_processed"] == turns * count
    assert metrics["total_errors"] == 0
    return turns * count / spent


def bare_per_second(count: int, turns: int) -> float:
    """Return what bare queues do: hand-offs to so many threads and back, a turn at a time."""
    import queue
    import threading

    queues: list[queue.SimpleQueue[int]] = [queue.SimpleQueue() for _ in range(count)]
    done: queue.SimpleQueue[None] = queue.SimpleQueue()

    def work(mine: queue.SimpleQueue[int]) -> None:
        while mine.get():
            done.put(None)

    threads = [threading.Thread(target=work, args=(one,), daemon=True) for one in queues]
    for thread in threads:
        thread.start()
    began = time.perf_counter()
    for _ in range(turns):
        for one in queues:
            one.put(1)
        for _ in queues:
            done.get()
    spent = time.perf_counter() - began
    for one in queues:
        one.put(0)
    return turns * count / spent


def test_throughput_single_strategy() -> None:
    floor, ours = bare_per_second(1, 20_000), per_second(1, "data-driven", 20_000)
    print(f"one strategy, data-driven: {ours:,.0f}/s, bare queue {floor:,.0f}/s, ratio {ours / floor:.2f}")
    assert ours > floor / SLACK


def test_throughput_multiple_strategies() -> None:
    floor, ours = bare_per_second(5, 4_000), per_second(5, "data-driven", 4_000)
    print(f"five strategies, data-driven: {ours:,.0f}/s, bare queues {floor:,.0f}/s, ratio {ours / floor:.2f}")
    assert ours > floor / SLACK


def test_memory_usage() -> None:
    dispatcher = running(5, "live", Counting)
    process = psutil.Process(os.getpid())

    def run(turns: int) -> float:
        for _ in range(turns):
            dispatcher.notify_strategies(*PAIR)
            assert dispatcher.wait_for_strategies(60.0)
        gc.collect()
        return float(process.memory_info().rss) / 1e6

    before = run(500)
    growth = run(NOTIFICATIONS) - before
    dispatcher.shutdown()
    print(f"growth over {NOTIFICATIONS:,} notifications of five strategies: {growth:.1f} MB")
    assert growth < MOST_GROWTH_MB
    assert growth < 5.0, "nothing is kept of a notification"


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("mode", MODES)
def test_latency_distribution(mode: str, count: int) -> None:
    floor, ours = bare_latency(count, 500), notify_latency(count, mode, 500)
    print(
        f"{mode}, {count} strategies: p50 {ours.p50:.3f} ms, p99 {ours.p99:.3f} ms; "
        f"bare queues {floor.p50:.3f} and {floor.p99:.3f} ms"
    )
    assert ours.p50 < max(0.2, floor.p50 * SLACK)
    assert ours.p99 < max(1.0, floor.p99 * SLACK)
