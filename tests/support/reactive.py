"""A small session for reactive strategies: real bar series and a clock that stands, no threads and no sockets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from strategies.bar_series import Bar, BarSeries
from strategies.loader import LoadedStrategy
from strategies.reactive import ReactiveStrategy, Signal, SignalAction, StrategyConfig, StrategyContext

DEADLINE_S = 10.0
MINUTE_NS = 60_000_000_000
OPEN_NS = 1_704_205_800 * 1_000_000_000  # 2024-01-02 09:30 in New York


def wait_until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for a condition with a deadline; fail loudly when it never comes."""
    deadline = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what or condition}"
        pause.wait(0.001)


class StandingData:
    """Session data that a test fills: series by pair, quality by pair (100 unless said)."""

    def __init__(self) -> None:
        self.series: dict[tuple[str, str], BarSeries] = {}
        self.quality: dict[tuple[str, str], float] = {}

    def get_bars_ref(self, symbol: str, interval: str) -> BarSeries:
        return self.series.setdefault((symbol, interval), BarSeries(symbol, interval))

    def get_bar_quality(self, symbol: str, interval: str) -> float:
        return self.quality.get((symbol, interval), 100.0 if (symbol, interval) in self.series else 0.0)

    def get_indicator(self, symbol: str, interval: str, name: str, period: int = 0, **params: float | str) -> Any:
        raise NotImplementedError

    def add(self, symbol: str, interval: str, *closes: float, volume: float = 100.0, minutes: int = 1) -> None:
        """Append closed bars that are flat at the closes."""
        series = self.get_bars_ref(symbol, interval)
        for close in closes:
            start = OPEN_NS + len(series) * minutes * MINUTE_NS
            series.append(Bar(start, close, close, close, close, volume))


class StandingClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = datetime(2024, 1, 2, 15, 0, tzinfo=UTC)

    def get_current_time(self) -> datetime:
        return self.now


def standing_context(mode: str = "backtest") -> StrategyContext:
    """Return a context over data and a clock that the test moves."""
    return StrategyContext(StandingData(), StandingClock(), None, mode)


class RecordingStrategy(ReactiveStrategy):
    """Notes every call with its thread; does in ``on_bars`` what the test asks for."""

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        super().__init__(name, config)
        self.calls: list[tuple[str, str]] = []
        self.hooks: list[str] = []
        self.threads: set[str] = set()
        self.act: Callable[[str, str], Sequence[Signal] | None] = lambda symbol, interval: []

    def get_subscriptions(self) -> list[tuple[str, str]]:
        return [(symbol, interval) for symbol, interval in self.config.get("pairs", [("AAPL", "5m")])]

    def setup(self, context: StrategyContext) -> bool:
        self.hooks.append("setup")
        return super().setup(context)

    def on_bars(self, symbol: str, interval: str) -> Sequence[Signal] | None:
        self.threads.add(threading.current_thread().name)
        self.calls.append((symbol, interval))
        return self.act(symbol, interval)

    def teardown(self, context: StrategyContext) -> None:
        self.hooks.append("teardown")

    def on_symbol_added(self, symbol: str) -> None:
        self.threads.add(threading.current_thread().name)
        self.hooks.append(f"added {symbol}")

    def on_quality_update(self, symbol: str, interval: str, quality: float) -> None:
        self.hooks.append(f"quality {symbol} {interval} {quality:g}")


class Gateable:
    """Blocks a strategy in ``on_bars`` until the test lets it go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.may_leave = threading.Semaphore(0)

    def __call__(self, symbol: str, interval: str) -> list[Signal]:
        self.entered.release()
        assert self.may_leave.acquire(timeout=DEADLINE_S)
        return []

    def let_go(self, times: int = 1) -> None:
        self.may_leave.release(times)

    def wait_entered(self) -> None:
        assert self.entered.acquire(timeout=DEADLINE_S), "on_bars was not called"


def buy(symbol: str, interval: str) -> list[Signal]:
    """Answer every bar with a BUY."""
    return [Signal(symbol, SignalAction.BUY)]


@dataclass
class StandingSystem:
    """What a dispatcher needs of a session's system manager."""

    strategies: list[StrategyConfig] = field(default_factory=list)
    mode: Any = field(default_factory=lambda: SimpleNamespace(value="backtest"))
    speed: float = 0.0
    data: StandingData = field(default_factory=StandingData)
    clock: StandingClock = field(default_factory=StandingClock)

    @property
    def session_config(self) -> Any:
        return SimpleNamespace(
            session_data_config=SimpleNamespace(strategies=self.strategies),
            backtest_config=SimpleNamespace(speed_multiplier=self.speed),
        )

    def get_session_data(self) -> StandingData:
        return self.data

    def get_time_manager(self) -> StandingClock:
        return self.clock


def loads(**classes: type[ReactiveStrategy]) -> Callable[[str], LoadedStrategy]:
    """Return a loader that knows these classes by the last part of a module's name."""

    def load(module: str) -> LoadedStrategy:
        name = module.rpartition(".")[2]
        return LoadedStrategy(classes[name], None, None, "", {}, None, "reactive")  # type: ignore[arg-type]

    return load
