"""Relative strength: BUY when the RSI falls below the lower bound, SELL when it rises above the upper one.

The RSI here is the plain average of the last changes, not Wilder's smoothing. The same signal is not given twice in a
row for a symbol.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from strategies.bar_series import Floats
from strategies.params import ReactiveParams
from strategies.reactive import ReactiveStrategy, Signal, SignalAction, StrategyContext

SPARE_BARS = 10  # seen beyond the period before the first decision


class Params(ReactiveParams):
    """What an operator can change, with bounds."""

    interval: str = Field(default="5m", pattern=r"^[1-9]\d{0,4}[smdw]$", description="Bar interval, such as 5m.")
    rsi_period: int = Field(default=14, ge=2, le=500, description="Length of the RSI, in bars.")
    oversold: float = Field(default=30.0, gt=0, lt=50, description="BUY below this.")
    overbought: float = Field(default=70.0, gt=50, lt=100, description="SELL above this.")
    quantity: int = Field(default=10, ge=1, le=100_000, description="Units of an order.")


class RsiStrategy(ReactiveStrategy):
    """Buys weakness, sells strength, each symbol by itself."""

    params_model = Params

    def setup(self, context: StrategyContext) -> bool:
        """Read the parameters; refuse to run without symbols."""
        if not super().setup(context):
            return False
        config = self.config
        self.symbols: list[str] = list(config.get("symbols", []))
        self.period: int = config.get("rsi_period", 14)
        self.oversold: float = config.get("oversold", 30.0)
        self.overbought: float = config.get("overbought", 70.0)
        self.quantity: int = config.get("quantity", 10)
        self._last: dict[str, SignalAction] = {}
        if not self.symbols:
            self._logger.error("No symbols are configured.")
        return bool(self.symbols)

    def get_subscriptions(self) -> Sequence[tuple[str, str]]:
        """Follow every symbol at one interval."""
        interval = self.config.get("interval", "5m")
        return [(symbol, interval) for symbol in self.config.get("symbols", [])]

    def on_bars(self, symbol: str, interval: str) -> Sequence[Signal]:
        """Compare the latest RSI with the bounds."""
        assert self.context is not None  # noqa: S101 - setup came first
        closes = self.context.get_bars(symbol, interval).close
        if len(closes) < self.period + SPARE_BARS:
            return []
        value = plain_rsi(closes[-self.period - 1 :])
        if value < self.oversold:
            action = SignalAction.BUY
        elif value > self.overbought:
            action = SignalAction.SELL
        else:
            return []
        if self._last.get(symbol) is action:
            return []
        self._last[symbol] = action
        signal = Signal(symbol, action, quantity=self.quantity, reason=f"RSI {value:.1f}.", metadata={"rsi": value})
        self.log_signal(signal)
        return [signal]


def plain_rsi(closes: Floats) -> float:
    """Return the RSI (0–100) over all changes of the closes; 50 when nothing moved.

    >>> plain_rsi(np.array([1.0, 2.0, 3.0])), plain_rsi(np.array([2.0, 1.0, 2.0])), plain_rsi(np.array([1.0, 1.0]))
    (100.0, 50.0, 50.0)
    """
    changes = np.diff(closes)
    gains, losses = float(changes[changes > 0].sum()), float(-changes[changes < 0].sum())
    return 100.0 * gains / (gains + losses) if gains + losses else 50.0


__all__ = ["RsiStrategy"]
