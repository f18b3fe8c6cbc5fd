"""What a session is put together from, as its coordinator sees it.

Owns: the shapes at the borders between coordinator and processor, strategies, broker and venue. Leaves: putting them
together (``system_manager``). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from strategies.bar_series import Bar
from strategies.exceptions import ConflictError
from strategies.reactive import SessionDataPort
from trading.market.feeds import BarFeed
from trading.market.gap_keeper import GapKeeper
from trading.market.lag import LagControl
from trading.market.scanners.base import MarketScan
from trading.market.session_parts import SessionConfig
from trading.market.session_status import NobodyWatches, SessionObserver
from trading.market.session_symbols import LaneDesk, SymbolStore
from trading.market.session_table import TradingSession
from trading.market.time_manager import TimeManager


class ProcessorPort(SymbolStore, Protocol):
    """Where bars become what strategies see. ``bars`` counts the base bars that were worked on."""

    bars: int
    lag: LagControl

    def begin_day(self, session: TradingSession) -> None:
        """Forget yesterday."""

    def activate(self) -> None:
        """Tell strategies from now on."""

    def deactivate(self) -> None:
        """Tell strategies nothing any more."""

    def hold(self, is_held: bool) -> None:
        """Take bars in without telling strategies, or tell them again."""

    def process(self, now_ns: int, bars: Sequence[tuple[str, Bar]]) -> None:
        """Work on the bars that ended now, tell strategies, wait for them as the mode asks for."""


class StrategiesPort(Protocol):
    """The strategies of a session (``dispatcher``)."""

    failure: str

    def initialize(self) -> bool:
        """Load them."""

    def start_strategies(self) -> bool:
        """Set up and start them."""

    def stop_strategies(self) -> None:
        """Stop them."""

    def shutdown(self) -> None:
        """Forget them."""

    def get_all_subscriptions(self) -> set[tuple[str, str]]:
        """Return every pair that somebody follows."""

    def notify_symbol_added(self, symbol: str) -> None:
        """Tell them of a symbol that came during the session."""

    def get_metrics(self) -> dict[str, Any]:
        """Return their figures."""


class DeskPort(LaneDesk, Protocol):
    """The simulated broker of a backtest (``sim_desk``)."""

    def follow(self, data: Any) -> None:
        """Ask these data how complete bars are."""

    def meet(self, now_ns: int, symbols: Iterable[str]) -> None:
        """Let the bars that end now meet the orders that were there before."""

    def settle(self, now_ns: int) -> int:
        """Turn the signals that wait into orders."""

    def expire(self, now_ns: int) -> None:
        """End the orders that are over by now."""

    def is_locked(self, symbol: str) -> bool:
        """Tell whether a position or an order holds a symbol."""

    def figures(self) -> dict[str, dict[str, Any]]:
        """Return money and orders by strategy."""


class VenuePort(Protocol):
    """What a live session asks of the engine."""

    def market_scan(self, scan: MarketScan) -> list[str]:
        """Return the symbols of one of IB's rankings.

        Raises: MatsError.
        """

    def holds(self, symbol: str) -> bool:
        """Tell whether a position or an order of the session's strategies holds a symbol."""

    def figures(self) -> dict[str, dict[str, Any]]:
        """Return money and orders by strategy, as far as known."""


class NoVenue:
    """The venue of a backtest: there is no IB in the past."""

    def market_scan(self, scan: MarketScan) -> list[str]:
        """Refuse.

        Raises: ConflictError.
        """
        raise ConflictError("IB's rankings have no past: this scanner runs live only.", code="live_only")

    def holds(self, symbol: str) -> bool:
        """Hold nothing."""
        return False

    def figures(self) -> dict[str, dict[str, Any]]:
        """Know nothing."""
        return {}


@dataclass(slots=True)
class SessionPorts:
    """All of it. ``desk`` None: orders go to IB."""

    config: SessionConfig
    time_manager: TimeManager
    session_data: SessionDataPort
    processor: ProcessorPort
    strategies: StrategiesPort
    feed: BarFeed
    desk: DeskPort | None = None
    observer: SessionObserver = field(default_factory=NobodyWatches)
    venue: VenuePort = field(default_factory=NoVenue)
    gaps: GapKeeper | None = None
