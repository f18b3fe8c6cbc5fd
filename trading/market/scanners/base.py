"""What a scanner is: three methods, the context they are given, and what a scan answers.

Owns: ``BaseScanner``, ``ScanContext``, ``ScanResult``. Leaves: when it runs (``manager``), where data comes from
(``ScanHost``). Pure.
Rule: ``setup`` asks for light data, ``scan`` promotes by ``add_symbol``, ``teardown`` gives up its own resources; what
was provisioned for a symbol that was neither promoted nor locked is removed by the manager, never by the scanner.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from strategies.bar_series import BarSeries
from strategies.exceptions import ConfigError
from strategies.reactive import IndicatorView, SessionDataPort
from trading.market.time_manager import TimeManager

MAX_UNIVERSE = 2_000
WARM_UP_FACTOR = 2
"""An indicator of period n gets 2n bars, so that recursive ones have settled."""


class ScannerParams(BaseModel):
    """What every scanner can be told; subclass it as ``Params``."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    universe: list[str] = Field(
        default_factory=list,
        max_length=MAX_UNIVERSE,
        description="Symbols that are looked at, and stored universes such as univ/sp500.",
    )


@dataclass(slots=True)
class ScanResult:
    """What one scan came to. ``symbols`` were found, best first; ``metadata`` has figures by symbol, JSON-able."""

    symbols: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    execution_time_ms: float = 0.0
    skipped: bool = False
    error: str | None = None
    promoted: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Need:
    """Light data for one symbol: ``bars`` of an interval before the session, then those of the session."""

    symbol: str
    interval: str
    bars: int


@dataclass(frozen=True, slots=True)
class MarketScan:
    """A ranking asked of IB. Prices in the instruments' currency; changes in per cent."""

    code: str
    location: str = "STK.US.MAJOR"
    instrument: str = "STK"
    rows: int = 20
    above_price: float | None = None
    below_price: float | None = None
    above_volume: int | None = None


class ScanHost(Protocol):
    """What a scanner needs of where it runs: a session, or a scan by hand."""

    @property
    def session_data(self) -> SessionDataPort:
        """Return the bars and indicators."""

    @property
    def time_manager(self) -> TimeManager:
        """Return the clock and the calendar."""

    @property
    def mode(self) -> str:
        """Return live or backtest."""

    def provision(self, needs: Sequence[Need]) -> None:
        """Load light data and keep it up to date; a symbol that has more already stays as it is.

        Raises: MatsError where data cannot be had.
        """

    def market_scan(self, scan: MarketScan) -> list[str]:
        """Return the symbols of one of IB's rankings, best first.

        Raises: MatsError where IB is not to be asked, as in a backtest.
        """

    def is_locked(self, symbol: str) -> bool:
        """Tell whether a position or an order holds a symbol."""


class ScanContext:
    """A scanner's view of the session at one moment, which stands still while it scans."""

    def __init__(self, host: ScanHost, universe: Sequence[str]) -> None:
        self._host = host
        self.universe = list(universe)
        self.wanted: list[str] = []
        self.provisioned: set[str] = set()

    @property
    def session_data(self) -> SessionDataPort:
        """Return the bars and indicators."""
        return self._host.session_data

    @property
    def time_manager(self) -> TimeManager:
        """Return the clock and the calendar."""
        return self._host.time_manager

    @property
    def mode(self) -> str:
        """Return live or backtest."""
        return self._host.mode

    def get_current_time(self) -> datetime:
        """Return the moment scanned for, aware UTC."""
        return self._host.time_manager.get_current_time()

    def get_bars(self, symbol: str, interval: str) -> BarSeries:
        """Return the closed bars; an unknown pair is empty."""
        return self._host.session_data.get_bars_ref(symbol, interval)

    def get_indicator(self, symbol: str, interval: str, name: str, period: int = 0, **params: float) -> IndicatorView:
        """Return an indicator of the bars."""
        return self._host.session_data.get_indicator(symbol, interval, name, period, **params)

    def add_bars(self, symbol: str, interval: str, bars: int) -> None:
        """Have bars of a symbol: so many before the session, and those of the session."""
        self.provisioned.add(symbol)
        self._host.provision([Need(symbol, interval, bars)])

    def add_indicator(self, symbol: str, interval: str, name: str, period: int = 0, **params: float) -> None:
        """Have an indicator of a symbol; its bars come with it, twice its period to warm up."""
        self.add_bars(symbol, interval, max(1, WARM_UP_FACTOR * period))
        self.get_indicator(symbol, interval, name, period, **params)

    def add_symbol(self, symbol: str) -> None:
        """Promote a symbol: all data of the session is loaded for it and strategies are told; again is harmless."""
        if symbol not in self.wanted:
            self.wanted.append(symbol)

    def is_locked(self, symbol: str) -> bool:
        """Tell whether a position or an order holds a symbol."""
        return self._host.is_locked(symbol)

    def market_scan(self, scan: MarketScan) -> list[str]:
        """Return the symbols of one of IB's rankings, best first.

        Raises: MatsError where IB is not to be asked.
        """
        return self._host.market_scan(scan)


class BaseScanner(ABC):
    """Finds symbols. ``Params`` types its configuration, so that mistakes are found when it is saved."""

    Params: ClassVar[type[ScannerParams]] = ScannerParams
    needs_ib: ClassVar[bool] = False
    """True: it asks IB and cannot run in a backtest."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.params = check_config(type(self), config)
        self.config = dict(config)
        self._logger = logging.getLogger(f"scanner.{type(self).__name__}")

    def universe(self) -> list[str]:
        """Return the symbols and stored universes that it looks at; none for one that asks IB."""
        return list(dict.fromkeys(self.params.universe))

    def setup(self, context: ScanContext) -> bool:
        """Ask for light data, once before the session; False gives up."""
        return True

    @abstractmethod
    def scan(self, context: ScanContext) -> ScanResult:
        """Look at the present, promote by ``context.add_symbol``, return what was found."""

    def teardown(self, context: ScanContext) -> None:  # noqa: B027 - a hook
        """Give up resources after the last scan."""


def check_config(cls: type[BaseScanner], config: Mapping[str, Any]) -> ScannerParams:
    """Return a scanner's typed parameters.

    Raises: ConfigError (bad_scanner_config) with ``errors`` by place.
    """
    try:
        return cls.Params.model_validate(dict(config))
    except ValidationError as error:
        errors = {}
        for item in error.errors(include_url=False):
            place = ".".join(str(part) for part in item["loc"]) or "config"
            unknown = item["type"] == "extra_forbidden"
            errors[place] = "There is no such parameter." if unknown else str(item["msg"])
        listed = " ".join(f"{place}: {reason}" for place, reason in errors.items())
        message = f"The scanner's parameters cannot be used. {listed}"
        raise ConfigError(message, code="bad_scanner_config", errors=errors) from error
