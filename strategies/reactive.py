"""ReactiveStrategy: a plain object that is told of new bars and answers with signals; no threads, no IB, no asyncio.

Owns: signals, the context that a strategy is given, the strategy's hooks, its entry in a session's configuration.
Leaves: threads and notifications (``trading.market``), orders from signals (``SignalExecutor``), the backtest.
Rule: subscriptions are read before ``setup`` and again after it, so ``get_subscriptions`` reads ``self.config``, or
what ``__init__`` made of it.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, ClassVar, Protocol

import numpy as np

from strategies.bar_series import BarSeries, Floats
from strategies.params import ReactiveParams
from strategies.quantities import to_decimal

LOW_QUALITY = 95.0
"""Per cent; below it a strategy is warned by default."""


class SignalAction(Enum):
    """What a strategy wants."""

    BUY = "BUY"
    SELL = "SELL"
    HOLD = "HOLD"
    CLOSE = "CLOSE"


@dataclass(slots=True)
class Signal:
    """One wish of a strategy.

    ``quantity`` None is sized by the executor; unsigned, in units of the instrument. ``price`` makes it a limit order
    at that price unless ``order_type`` (IB's spelling) says otherwise; ``stop``, ``trail`` (a distance) and
    ``trail_percent`` and ``limit_offset`` belong to types that need them. ``tif`` GTD needs ``good_till``, aware.
    ``stop_loss`` and ``take_profit`` are prices of exits that protect the entry, one cancelling the other. Prices in
    the instrument's currency.
    """

    symbol: str
    action: SignalAction
    quantity: Decimal | int | None = None
    price: Decimal | float | None = None
    reason: str = ""
    metadata: dict[str, Any] | None = None
    order_type: str | None = None
    stop: Decimal | float | None = None
    trail: Decimal | float | None = None
    trail_percent: Decimal | float | None = None
    tif: str = "DAY"
    stop_loss: Decimal | float | None = None
    take_profit: Decimal | float | None = None
    limit_offset: Decimal | float | None = None
    good_till: datetime | None = None

    def __post_init__(self) -> None:
        if self.metadata is None:
            self.metadata = {}


class IndicatorView(Protocol):
    """One indicator, read through the cursor of its bars. Values are NaN while it warms up."""

    @property
    def value(self) -> float | None:
        """Return the latest value, None while it warms up."""

    @property
    def previous(self) -> float | None:
        """Return the value one bar before, None while it warmed up."""

    @property
    def values(self) -> Any:
        """Return the visible values, a read-only float64 array as long as the bars."""

    def output(self, name: str) -> IndicatorView:
        """Return another column of an indicator that has several, such as ``signal`` of macd.

        Raises: ConfigError (bad_indicator) naming those that there are.
        """


class SessionDataPort(Protocol):
    """Market data as strategies read it; views, never copies."""

    def get_bars_ref(self, symbol: str, interval: str) -> BarSeries:
        """Return the closed bars; an unknown pair is an empty series, never None."""

    def get_bar_quality(self, symbol: str, interval: str) -> float:
        """Return how complete today's bars are, 0–100; 0.0 for an unknown pair."""

    def get_indicator(
        self, symbol: str, interval: str, name: str, period: int = 0, **params: float | str
    ) -> IndicatorView:
        """Return an indicator; asked for the first time it is computed over what is there.

        Raises: ConfigError (unknown_indicator, bad_indicator).
        """


class TimePort(Protocol):
    """The session's clock."""

    def get_current_time(self) -> datetime:
        """Return the present of the session, aware UTC."""


@dataclass(slots=True)
class StrategyContext:
    """What a strategy is given. ``mode``: live, backtest."""

    session_data: SessionDataPort
    time_manager: TimePort
    system_manager: Any
    mode: str

    def get_current_time(self) -> datetime:
        """Return the present of the session, aware UTC."""
        return self.time_manager.get_current_time()

    def get_bars(self, symbol: str, interval: str) -> BarSeries:
        """Return the closed bars so far, a reference that grows."""
        return self.session_data.get_bars_ref(symbol, interval)

    def get_bar_quality(self, symbol: str, interval: str) -> float:
        """Return how complete today's bars are, 0–100."""
        return self.session_data.get_bar_quality(symbol, interval)

    def get_indicator(
        self, symbol: str, interval: str, name: str, period: int = 0, **params: float | str
    ) -> IndicatorView:
        """Return an indicator of the bars, read through the same cursor."""
        return self.session_data.get_indicator(symbol, interval, name, period, **params)


class ReactiveStrategy(ABC):
    """A strategy that reacts to bars.

    Life: ``__init__(name, config)``, ``setup``, ``on_bars`` at each new bar of a subscription, ``teardown``.
    All of it runs on one thread, never two calls at once.
    """

    params_model: ClassVar[type[ReactiveParams] | None] = None
    """Typed parameters: the engine checks ``config`` by them and the admin has a form. A module's ``Params`` counts as
    well."""
    auto_subscribe: ClassVar[bool] = False
    """True: symbols that a scanner adds are subscribed with this strategy's intervals."""
    warm_up_bars: ClassVar[int] = 300
    """So many bars of each subscription are there before the first ``on_bars`` live, as far as history has them."""

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        self.name = name
        self.config = dict(config)
        self.context: StrategyContext | None = None
        self._logger = logging.getLogger(f"strategy.{name}")

    @abstractmethod
    def get_subscriptions(self) -> Sequence[tuple[str, str]]:
        """Return the (symbol, interval) pairs to be told about."""

    @abstractmethod
    def on_bars(self, symbol: str, interval: str) -> Sequence[Signal] | None:
        """React to a new bar; return signals, nothing means none."""

    def setup(self, context: StrategyContext) -> bool:
        """Prepare; False keeps the strategy from running."""
        self.context = context
        return True

    def teardown(self, context: StrategyContext) -> None:  # noqa: B027 - a hook
        """Tidy up after the last bar."""

    def on_config_changed(self, config: Mapping[str, Any]) -> bool:
        """Take parameters that were edited while it runs; False ends it. The default sets it up anew.

        Subscriptions are read again afterwards.
        """
        self.config = dict(config)
        return self.context is not None and self.setup(self.context)

    def on_symbol_added(self, symbol: str) -> None:  # noqa: B027 - a hook
        """React to a symbol that came during the session."""

    def on_quality_update(self, symbol: str, interval: str, quality: float) -> None:
        """React to a quality (0–100) that crossed the threshold downwards."""
        if quality < LOW_QUALITY:
            self._logger.warning("low quality symbol=%s interval=%s quality=%.1f%%", symbol, interval, quality)

    def log_signal(self, signal: Signal) -> None:
        """Write a signal into the strategy's log."""
        self._logger.info(
            "signal action=%s symbol=%s quantity=%s reason=%s",
            signal.action.value,
            signal.symbol,
            signal.quantity,
            signal.reason,
        )


@dataclass(frozen=True, slots=True)
class SignalArrays:
    """The signals of one pair at all bars at once.

    Shape: ``targets`` float64, one element a bar: the position in units, signed, that is wanted after that bar; NaN
    leaves things as they are. Element t depends on bars up to t alone.
    """

    targets: Floats

    @classmethod
    def of_entries(cls, entries: Sequence[bool], exits: Sequence[bool], units: float) -> SignalArrays:
        """Return a position of ``units`` from each entry to the next exit; an exit at the same bar wins."""
        targets = np.full(len(entries), np.nan)
        targets[np.asarray(entries, dtype=bool)] = units
        targets[np.asarray(exits, dtype=bool)] = 0.0
        return cls(targets)


class ArrayStrategy(ReactiveStrategy):
    """A strategy of one pair that declares its signals as arrays; a backtest then runs it in a compiled loop.

    The engine keeps the position at its target: where both differ, working orders are taken back and a market order for
    the difference is placed. A target that was refused is not tried again until it changes.
    Live, the same arrays are computed over the bars so far and the last element counts.
    """

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        super().__init__(name, config)
        self._aim = 0.0

    @abstractmethod
    def signals_as_arrays(self, bars: BarSeries) -> SignalArrays:
        """Return the signals at all of these bars, from them and ``config`` alone; ``setup`` may never come."""

    def on_bars(self, symbol: str, interval: str) -> Sequence[Signal] | None:
        """Return the order from the last target to this one."""
        if self.context is None:
            return None
        target = float(self.signals_as_arrays(self.context.get_bars(symbol, interval)).targets[-1])
        if target != target or target == self._aim:
            return None
        units, self._aim = to_decimal(target) - to_decimal(self._aim), target
        return [Signal(symbol, SignalAction.BUY if units > 0 else SignalAction.SELL, abs(units))]


@dataclass(slots=True)
class StrategyConfig:
    """A reactive strategy in a session's configuration."""

    module: str
    enabled: bool = True
    config: dict[str, Any] = field(default_factory=dict)

    def validate(self) -> None:
        """Check the module's name.

        Raises: ValueError.
        """
        if not self.module:
            raise ValueError("A strategy needs the path of its module, such as strategies.examples.simple_ma_cross.")
        if not all(part.isidentifier() for part in self.module.split(".")):
            raise ValueError(f"{self.module!r} is no module path.")
