"""A session's data processor in its smallest form: bars into series, then notify, then wait; turn by turn.

What it leaves out (lag, gaps, scanners, days) belongs to the session's own coordinator; what it does is the order of
things that strategies depend on: all bars of an instant are there before anybody is told, and the clock goes on only
when the dispatcher lets it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from strategies.bar_series import Bar
from strategies.reactive import StrategyConfig
from tests.support.reactive import MINUTE_NS, OPEN_NS, StandingClock, StandingData, StandingSystem
from trading.market.dispatcher import StrategyDispatcher

CONFIGS = Path(__file__).resolve().parents[1] / "session_configs"
DAY_MINUTES = 390


def system_of(name: str, **changes: Any) -> StandingSystem:
    """Return the system of a session configuration under ``tests/session_configs``."""
    raw = json.loads((CONFIGS / f"{name}.json").read_text(encoding="utf-8"))
    strategies = [StrategyConfig(**one) for one in raw["session_data_config"]["strategies"]]
    made = StandingSystem(strategies, SimpleNamespace(value=raw["mode"]), raw["backtest_config"]["speed_multiplier"])
    for field_name, value in changes.items():
        setattr(made, field_name, value)
    return made


def minutes(seed: int, count: int = DAY_MINUTES, price: float = 100.0) -> list[Bar]:
    """Return seeded minute bars of the day from the open on, rounded to cents."""
    random = np.random.default_rng(seed)
    closes = np.round(price * np.exp(np.cumsum(random.normal(0, 0.002, count))), 2)
    found, last = [], price
    for number, close in enumerate(closes.tolist()):
        high, low = max(last, close) + 0.01, min(last, close) - 0.01
        found.append(Bar(OPEN_NS + number * MINUTE_NS, last, high, low, close, 1000.0))
        last = close
    return found


@dataclass
class Driver:
    """Feeds minute bars of several symbols; five-minute bars are derived from whole ones."""

    dispatcher: StrategyDispatcher
    data: StandingData
    clock: StandingClock
    lengths: Sequence[int] = (1, 5)
    wait_s: float | None = None
    waits: list[bool] = field(default_factory=list)

    def run(self, bars: dict[str, list[Bar]]) -> None:
        """Go through the minutes of all symbols."""
        for number in range(max(map(len, bars.values()))):
            self.turn({symbol: rows[number] for symbol, rows in bars.items() if number < len(rows)})

    def turn(self, bars: dict[str, Bar]) -> bool:
        """Deliver one minute of every symbol; return whether everybody was ready in time."""
        closed = [pair for symbol, bar in bars.items() for pair in self._store(symbol, bar)]
        last = max(bar.start_ns for bar in bars.values()) + MINUTE_NS
        self.clock.now = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=last // 1000)
        return self.tell(closed)

    def tell(self, closed: Iterable[tuple[str, str]]) -> bool:
        """Notify of pairs with a new bar, then wait as the mode says."""
        for symbol, interval in closed:
            self.dispatcher.notify_strategies(symbol, interval)
        ready = self.dispatcher.wait_for_strategies(self.wait_s)
        self.waits.append(ready)
        return ready

    def _store(self, symbol: str, bar: Bar) -> list[tuple[str, str]]:
        base = self.data.get_bars_ref(symbol, "1m")
        base.append(bar)
        closed = [(symbol, "1m")]
        for length in self.lengths:
            if length > 1 and len(base) % length == 0:
                rows = base[-length:]
                whole = Bar(
                    rows[0].start_ns,
                    rows[0].open,
                    max(row.high for row in rows),
                    min(row.low for row in rows),
                    rows[-1].close,
                    sum(row.volume for row in rows),
                )
                self.data.get_bars_ref(symbol, f"{length}m").append(whole)
                closed.append((symbol, f"{length}m"))
        return closed
