"""Sweeps of the shipped daily bars: strategy files that are quick, and wishes over them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

MEAN = """
import numpy as np
from pydantic import Field

from strategies.params import ReactiveParams
from strategies.reactive import ArrayStrategy, SignalArrays


class Params(ReactiveParams):
    min_quality: float = 0
    length: int = Field(default=10, ge=2)
    units: int = Field(default=100, ge=1)
    mood: str = "calm"


class MeanStrategy(ArrayStrategy):
    params_model = Params

    def get_subscriptions(self):
        return [(symbol, "1d") for symbol in self.config["symbols"]]

    def signals_as_arrays(self, bars):
        if self.config["mood"] == "broken":
            raise RuntimeError("no mood for this")
        closes, length = bars.close, self.config["length"]
        sums = np.cumsum(np.concatenate(([0.0], closes)))
        means = np.full(len(closes), np.inf)
        means[length - 1:] = (sums[length:] - sums[:-length]) / length
        return SignalArrays(np.where(closes > means, float(self.config["units"]), 0.0))
"""
BY_BARS = (
    MEAN
    + """
    def setup(self, context):
        return super().setup(context)
"""
)
ENDS = """
from strategies.params import ReactiveParams
from strategies.reactive import ReactiveStrategy, Signal, SignalAction


class Params(ReactiveParams):
    min_quality: float = 0
    length: int = 10


class EndsStrategy(ReactiveStrategy):
    params_model = Params

    def get_subscriptions(self):
        return [(symbol, "1d") for symbol in self.config["symbols"]]

    def on_bars(self, symbol, interval):
        bars = self.context.get_bars(symbol, interval)
        if self.context.get_current_time().year >= 2006:
            raise RuntimeError("no more")
        if len(bars) % self.config["length"] == 0:
            return [Signal(symbol, SignalAction.BUY, 10)]
        return [Signal(symbol, SignalAction.CLOSE)] if len(bars) % self.config["length"] == 3 else None
"""
PEEK = """
from strategies.params import ReactiveParams
from strategies.reactive import ReactiveStrategy


class Params(ReactiveParams):
    min_quality: float = 0
    length: int = 10


class PeekStrategy(ReactiveStrategy):
    params_model = Params

    def get_subscriptions(self):
        return [(symbol, "1d") for symbol in self.config["symbols"]]

    def on_bars(self, symbol, interval):
        bars = self.context.get_bars(symbol, interval)
        if len(bars) == len(bars.whole()[0]):
            raise RuntimeError(f"{bars[-1].timestamp:%Y-%m-%d} is the last bar laid out")
"""


def wish_of(file: str, space: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a sweep over four years of IBM, in this process; ``changes`` of the backtest stand under ``backtest``."""
    backtest = {
        "strategies": [{"file": file}],
        "symbols": ["IBM"],
        "source": "sample",
        "adjust": "none",
        "start": "2004-01-02",
        "end": "2007-12-31",
        **changes.pop("backtest", {}),
    }
    return {"backtest": backtest, "space": dict(space), "workers": 0, **changes}


def write_files(folder: Path) -> None:
    """Put the strategy files into a folder."""
    for name, text in (("mean.py", MEAN), ("mean_by_bars.py", BY_BARS), ("ends.py", ENDS), ("peek.py", PEEK)):
        (folder / name).write_text(text)
