"""What a backtest is told and what it answers: the border between engine, command, page, report, sweep and checks.

Owns: the shapes. Leaves: running (``engine``), models of costs (``models``), figures (``metrics``), pages and files.
Rule: money and quantities are Decimal here; inside a run prices are float64 columns that become Decimal at each fill by
their shortest text, which is exact to the cent. Equal inputs give equal results, bit by bit. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from strategies.bar_series import BarSeries
from trading.brokers.fees import FeeSchedule, FixedStockFees
from trading.market.calendars import NO_OVERRIDES, Overrides
from trading.market.signal_rules import Gates

Progress = Callable[[float, str], None]
"""Called with the fraction done (0–1) and a few words, at most some times a second."""

ShouldStop = Callable[[], bool]
"""Asked some times a second; True ends the run, which is then marked cancelled."""


class SlippageModel(Protocol):
    """How much worse than the model's price an order fills. Pure."""

    def worsen(self, price: Decimal, is_buy: bool) -> Decimal:
        """Return the price that is paid; limit and auction orders are never asked."""


@dataclass(frozen=True, slots=True)
class NoSlippage:
    """Fill at the model's price."""

    def worsen(self, price: Decimal, is_buy: bool) -> Decimal:
        """Return the price as it is."""
        return price


@dataclass(frozen=True, slots=True)
class NoFees:
    """Trade for nothing."""

    def total(self, traded: Any) -> Decimal:
        """Return 0."""
        return Decimal(0)


@dataclass(frozen=True, slots=True)
class Models:
    """The replaceable costs and bounds of a run.

    ``participation`` is the share of a bar's volume that orders may take, None without limit. ``half_spread`` is the
    distance of bid and ask from a bar's prices, in the price's currency. ``allow_short`` permits SELL from flat.
    """

    fees: FeeSchedule = field(default_factory=FixedStockFees)
    slippage: SlippageModel = field(default_factory=NoSlippage)
    participation: Decimal | None = Decimal(1)
    half_spread: Decimal = Decimal(0)
    allow_short: bool = True
    check_cash: bool = True


@dataclass(frozen=True, slots=True)
class InstrumentTerms:
    """What the books need to know of a symbol."""

    symbol: str
    currency: str = "USD"
    multiplier: Decimal = Decimal(1)
    lot: Decimal = Decimal(1)
    tick: Decimal | None = None
    exchange: str = "XNYS"  # exchange_calendars' name
    fees: FeeSchedule | None = None  # None: the run's
    may_be_negative: bool = False  # its prices, as of spreads and some futures


@dataclass(frozen=True, slots=True)
class StrategyEntry:
    """One strategy of a run: its own books under ``name``.

    ``make`` returns a fresh instance: a ReactiveStrategy for (name, config); an imperative class is made with the
    run's own engine port (``imperative.RunPort``). ``kind`` is reactive or imperative. ``config`` are the parameters,
    JSON-able. ``gates`` stand in for those that ``config`` asks for, where a check wants every signal traded.
    ``symbols`` are those that an imperative strategy trades; empty: all of the run.
    """

    name: str
    kind: str
    make: Callable[..., Any]
    config: Mapping[str, Any]
    cash: Decimal
    code_hash: str = ""
    gates: Gates | None = None
    symbols: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BacktestSpec:
    """A whole run. ``bars`` are laid out up to the end, with their cursors at ``start``; warm-up lies before it."""

    strategies: Sequence[StrategyEntry]
    bars: Mapping[tuple[str, str], BarSeries]  # by (symbol, interval); the base interval of each symbol at least
    start: datetime  # the first moment at which a strategy may act, aware
    end: datetime  # the last moment, aware
    models: Models = field(default_factory=Models)
    instruments: Mapping[str, InstrumentTerms] = field(default_factory=dict)  # what is missing is a US stock
    actions: Sequence[CorporateAction] = ()
    overrides: Overrides = NO_OVERRIDES  # what operators entered over the exchanges' calendars
    seed: int = 0


class CorporateAction(NamedTuple):
    """A split (``ratio`` new shares for one) or a cash dividend (``amount`` a share), effective before a day's open."""

    symbol: str
    at_ns: int
    ratio: Decimal | None = None
    amount: Decimal | None = None


class BacktestFill(NamedTuple):
    """One execution. Units: ``time_ns`` epoch nanoseconds UTC; ``quantity`` signed; ``fee`` in the own currency."""

    time_ns: int
    strategy: str
    symbol: str
    quantity: Decimal
    price: Decimal
    fee: Decimal
    order_id: int
    order_type: str
    reason: str
    realized: Decimal  # on the closed part, before the fee


class BacktestOrder(NamedTuple):
    """One order and its end: filled, cancelled, expired, denied or open. ``reason`` says why it was denied."""

    order_id: int
    strategy: str
    symbol: str
    placed_ns: int
    ended_ns: int | None
    side: str
    quantity: Decimal
    filled: Decimal
    order_type: str
    limit: Decimal | None
    stop: Decimal | None
    state: str
    reason: str


class OpenPosition(NamedTuple):
    """What is held at the end, marked at the last close."""

    strategy: str
    symbol: str
    quantity: Decimal
    average_cost: Decimal
    mark: Decimal
    unrealized: Decimal


@dataclass(slots=True)
class StrategyOutcome:
    """One strategy's books. Shape: ``equity_ns`` int64 and ``equity`` float64, equal length, one point a base bar."""

    name: str
    start_cash: Decimal
    cash: Decimal
    equity: Decimal
    realized: Decimal
    fees: Decimal
    positions: list[OpenPosition]
    equity_ns: npt.NDArray[np.int64]
    equity_curve: npt.NDArray[np.float64]
    errors: list[str]
    signals: int = 0
    bars_seen: int = 0
    dividends: Decimal = Decimal(0)  # paid less charged, in cash and equity, not in realised


@dataclass(slots=True)
class BacktestResult:
    """What came out. ``cancelled`` runs are whole up to ``ended``; ``bars`` counts base bars over all symbols."""

    fills: list[BacktestFill]
    orders: list[BacktestOrder]
    strategies: dict[str, StrategyOutcome]
    started: datetime
    ended: datetime
    bars: int
    seconds: float
    cancelled: bool = False
    warnings: list[str] = field(default_factory=list)
