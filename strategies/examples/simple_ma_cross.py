"""Moving-average cross on bars: BUY when the fast average crosses above the slow one, SELL when it crosses below.

Never the same signal twice in a row for a symbol; without ``quantity`` orders are sized by the strategy's equity.
Copy this file to begin a reactive strategy of your own.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, ValidationInfo, field_validator

from strategies.bar_series import BarSeries
from strategies.params import ReactiveParams
from strategies.reactive import ReactiveStrategy, Signal, SignalAction, StrategyContext


class Params(ReactiveParams):
    """What an operator can change, with bounds; the admin builds its form from this."""

    interval: str = Field(default="5m", pattern=r"^[1-9]\d{0,4}[smdw]$", description="Bar interval, such as 5m.")
    fast_period: int = Field(default=10, ge=1, le=1000, description="Length of the fast average, in bars.")
    slow_period: int = Field(default=20, ge=2, le=2000, description="Length of the slow average, in bars.")
    quantity: int | None = Field(default=None, ge=1, description="Units of an order; empty: sized by equity.")

    @field_validator("slow_period")
    @classmethod
    def slower_than_fast(cls, slow: int, info: ValidationInfo) -> int:
        """Refuse a slow average that is not slower."""
        if slow <= info.data.get("fast_period", 0):
            raise ValueError("The slow average must be longer than the fast one.")
        return slow


class SimpleMaCrossStrategy(ReactiveStrategy):
    """Follows the cross of two simple averages of the close, each symbol by itself."""

    params_model = Params

    def setup(self, context: StrategyContext) -> bool:
        """Read the parameters; refuse to run without symbols or with averages that never cross."""
        if not super().setup(context):
            return False
        self.symbols: list[str] = list(self.config.get("symbols", []))
        self.interval: str = self.config.get("interval", "5m")
        self.fast_period: int = self.config.get("fast_period", 10)
        self.slow_period: int = self.config.get("slow_period", 20)
        self.min_quality: float = self.config.get("min_quality", 95.0)
        self._last: dict[str, SignalAction] = {}
        problem = self._problem()
        if problem:
            self._logger.error(problem)
        return not problem

    def get_subscriptions(self) -> Sequence[tuple[str, str]]:
        """Follow every symbol at one interval; read before ``setup`` too, hence from the configuration."""
        interval = self.config.get("interval", "5m")
        return [(symbol, interval) for symbol in self.config.get("symbols", [])]

    def on_bars(self, symbol: str, interval: str) -> Sequence[Signal]:
        """Look for a cross between the last bar and the one before."""
        if symbol not in self.symbols or interval != self.interval:
            return []
        assert self.context is not None  # noqa: S101 - setup came first
        bars = self.context.get_bars(symbol, interval)
        if len(bars) < self.slow_period + 1:
            return []
        if self.context.get_bar_quality(symbol, interval) < self.min_quality:
            self._logger.info("skipped symbol=%s: its bars are less complete than %s %%", symbol, self.min_quality)
            return []
        action = self._cross(bars)
        if action is None or self._last.get(symbol) is action:
            return []
        self._last[symbol] = action
        fast, slow = self._mean(bars, self.fast_period), self._mean(bars, self.slow_period)
        where = "above" if action is SignalAction.BUY else "below"
        signal = Signal(
            symbol,
            action,
            quantity=self.config.get("quantity"),
            reason=f"Fast average ({fast:.2f}) crossed {where} the slow one ({slow:.2f}).",
            metadata={"fast_ma": fast, "slow_ma": slow, "interval": interval},
        )
        self.log_signal(signal)
        return [signal]

    def _cross(self, bars: BarSeries) -> SignalAction | None:
        before = self._mean(bars, self.fast_period, 1) - self._mean(bars, self.slow_period, 1)
        now = self._mean(bars, self.fast_period) - self._mean(bars, self.slow_period)
        if before <= 0 < now:
            return SignalAction.BUY
        return SignalAction.SELL if before >= 0 > now else None

    @staticmethod
    def _mean(bars: BarSeries, period: int, back: int = 0) -> float:
        """Return the average of the closes, ``back`` bars ago."""
        end = len(bars) - back
        return float(bars.close[end - period : end].mean())

    def _problem(self) -> str:
        if not self.symbols:
            return "No symbols are configured."
        if not 0 < self.fast_period < self.slow_period:
            return "The fast average must be shorter than the slow one, and longer than nothing."
        return ""


__all__ = ["SimpleMaCrossStrategy"]
