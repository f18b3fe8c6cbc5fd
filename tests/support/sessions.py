"""Whole sessions on stored bars: real processor, coordinator, strategies' threads and simulated fills; bars by seed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from strategies.reactive import ReactiveStrategy
from trading.market.coordinator import SessionCoordinator
from trading.market.feeds import Frames, StoredFeed, frames_reader
from trading.market.scanners.manager import ScanRecord
from trading.market.session_config import SessionConfig, parse_session_config
from trading.market.session_status import Phase, SessionStatus
from trading.market.sim_desk import SimulatedDesk
from trading.market.system_manager import SystemManager
from trading.market.time_manager import TimeManager

CONFIGS = Path(__file__).resolve().parents[1] / "session_configs"
NEW_YORK = ZoneInfo("America/New_York")
DAY_MINUTES = 390
DAY = date(2024, 1, 2)
WAIT_S = 60.0


def config_of(name: str) -> dict[str, Any]:
    """Return a configuration under ``tests/session_configs``."""
    raw: dict[str, Any] = json.loads((CONFIGS / f"{name}.json").read_text(encoding="utf-8"))
    return raw


def minutes(
    seed: int, day: date = DAY, *, count: int = DAY_MINUTES, price: float = 100.0, volume: float = 1000.0
) -> pd.DataFrame:
    """Return seeded minute bars of a day from its open on, rounded to cents."""
    random = np.random.default_rng([seed, day.toordinal()])
    closes = np.round(price * np.exp(np.cumsum(random.normal(0, 0.002, count))), 2)
    opens = np.concatenate([[price], closes[:-1]])
    begin = datetime.combine(day, time(9, 30), NEW_YORK).astimezone(UTC)
    index = pd.DatetimeIndex([begin + timedelta(minutes=n) for n in range(count)], name="ts")
    return pd.DataFrame(
        {
            "open": opens,
            "high": np.maximum(opens, closes) + 0.01,
            "low": np.minimum(opens, closes) - 0.01,
            "close": closes,
            "volume": volume,
        },
        index=index,
    )


def frames_of(symbols: Mapping[str, int], days: Sequence[date] = (DAY,)) -> Frames:
    """Return seeded minute bars of several symbols and days."""
    return {(symbol, "1m"): pd.concat([minutes(seed, day) for day in days]) for symbol, seed in symbols.items()}


@dataclass
class Watcher:
    """Notes what a session says of itself."""

    phases: list[Phase] = field(default_factory=list)
    statuses: list[SessionStatus] = field(default_factory=list)
    scans: list[ScanRecord] = field(default_factory=list)
    on_progress: Callable[[], None] = lambda: None

    def phase(self, status: SessionStatus) -> None:
        self.phases.append(status.phase)
        self.statuses.append(status)

    def progress(self, make: Callable[[], SessionStatus]) -> None:
        self.on_progress()

    def scanned(self, record: ScanRecord) -> None:
        self.scans.append(record)


@dataclass
class Run:
    """One session of a test."""

    config: SessionConfig
    system: SystemManager
    desk: SimulatedDesk
    watcher: Watcher

    def start(self) -> Run:
        """Start it; strategies run afterwards."""
        self.system.start_session(self.config)
        return self

    def finish(self, timeout_s: float = WAIT_S) -> Run:
        """Wait for its end; fail loudly when it does not come."""
        phase = self.system.wait(timeout_s)
        assert phase is not None, f"the session did not end: {self.coordinator.status()}"
        assert phase is not Phase.FAILED, (self.coordinator.status().message, self.coordinator.error)
        return self

    def go(self) -> Run:
        """Start it and wait for its end."""
        return self.start().finish()

    @property
    def coordinator(self) -> SessionCoordinator:
        """What drives it."""
        return self.system.get_coordinator()

    def strategy(self, name: str) -> ReactiveStrategy:
        """A strategy of the last day by name."""
        threads = self.system.get_strategy_manager()._strategy_threads
        return next(thread.strategy for thread in threads if thread.strategy.name == name)

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures of pages."""
        return self.coordinator.status().metrics

    def fills(self) -> list[tuple[Any, ...]]:
        """Every fill without its words, as it can be compared."""
        return [(f.time_ns, f.strategy, f.symbol, f.quantity, f.price, f.fee) for f in self.desk.fills]


def session(raw: Mapping[str, Any], frames: Frames, watcher: Watcher | None = None) -> Run:
    """Return a session on these bars, not started."""
    config = parse_session_config(dict(raw))
    first, until = datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
    desk, seen = SimulatedDesk(config), watcher or Watcher()
    system = SystemManager(
        StoredFeed(frames_reader(frames), first, until),
        time_manager=TimeManager("backtest", group=config.exchange_group),
        desk=desk,
        make_executor=desk.sink_for,
        observer=seen,
    )
    return Run(config, system, desk, seen)


def raw_session(
    strategies: Sequence[Mapping[str, Any]], symbols: Sequence[str] = ("AAPL",), **parts: Any
) -> dict[str, Any]:
    """Return a session's JSON; ``days`` first and last, ``speed``, ``data`` and ``trading`` as further parts."""
    first, last = parts.pop("days", (DAY, DAY))
    return {
        "mode": "backtest",
        "backtest_config": {
            "start_date": first.isoformat(),
            "end_date": last.isoformat(),
            "speed_multiplier": parts.pop("speed", 0),
            **parts.pop("backtest", {}),
        },
        "session_data_config": {
            "symbols": list(symbols),
            "streams": ["1m", "5m"],
            "strategies": list(strategies),
            **parts.pop("data", {}),
        },
        "trading_config": {
            "max_buying_power": 1_000_000,
            "max_per_symbol": 500_000,
            "max_per_trade": 500_000,
            **parts.pop("trading", {}),
        },
    }
