"""The engine's answers to its strategies and to their supervisor.

Owns: making an instance, its line, its broker, and what it says of itself. Leaves: lifecycles (``supervisor``), lines
(``lines``), orders (``order_side``).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from django.db import connection as database
from ib_async import IB

from portfolio.arctic.client import get_ac
from strategies.loader import LoadedStrategy, load_strategy_class
from strategies.models import Strategy
from strategies.ports import Broker
from strategies.reactive import ReactiveStrategy
from strategies.series_names import Listing
from strategies.services import effective_params, store_params
from trading.brokers.live import LiveBroker
from trading.engine.order_side import OrderSide
from trading.engine.reactive import ReactiveLife
from trading.engine.reconciler import allocate_missing
from trading.market.handover import keep_bars
from trading.models import StrategyRun

if TYPE_CHECKING:
    from portfolio.manager import PortfolioManager
    from trading.engine.gate import Gate
    from trading.engine.lines import StrategyLines
    from trading.engine.live_market import LiveMarket
    from trading.engine.publisher import Publisher
    from trading.engine.supervisor import Supervisor
    from trading.orders.intents import IntentWriter
    from trading.orders.trade_manager import TradeManager


class StrategySide(OrderSide):
    """What an engine offers its strategies."""

    gate: Gate
    intents: IntentWriter
    lines: StrategyLines
    market: LiveMarket
    portfolio_manager: PortfolioManager
    publisher: Publisher
    supervisor: Supervisor
    trade_manager: TradeManager
    session_claims: dict[str, Callable[[int, Mapping[str, Any]], Any]]
    _allocate_asked: bool
    _arctic_client: Any
    _state_lock: threading.Lock

    # -- what the supervisor asks

    def make_strategy(self, row: Strategy, client_id: int) -> Any:
        """Load file and parameters and return the instance.

        Raises: LoadError, ConfigError (bad_params).
        """
        loaded = load_strategy_class(row.filename)
        if not row.params and loaded.params:
            row = store_params(row.symbol, loaded.params, source="file")
        strategy = self._instance(loaded, client_id, effective_params(row, loaded), row.symbol)
        strategy.code_hash, strategy.params_revision = loaded.sha256, row.params_revision
        self.lines.settle(strategy)
        if self.gate.is_open:  # else the check that opens it does the same; one that was added since has no cash yet
            self._allocate_soon()
            self._rates.wake()
        return strategy

    def _instance(self, loaded: LoadedStrategy, client_id: int, params: Mapping[str, Any], symbol: str) -> Any:
        """Return an instance for the engine: a reactive strategy is given the life of every other.

        One that a running session decides for gets a life that only carries out the session's signals.
        """
        claim = self.session_claims.get(symbol)
        if claim is not None:
            return claim(client_id, params)
        if not issubclass(loaded.cls, ReactiveStrategy):
            return loaded.cls(client_id, self, params, broker_type="live", strategy_symbol=symbol)
        return ReactiveLife(
            client_id,
            self,
            params,
            strategy_symbol=symbol,
            cls=loaded.cls,
            market=self.market,
            canceller=self.trade_manager,
        )

    def _allocate_soon(self) -> None:
        """Have cash given to strategies that lack it: one look for all that start at once, each reads every owner."""
        with self._state_lock:
            is_asked, self._allocate_asked = self._allocate_asked, True
        if not is_asked:
            self.message_queue.submit(self._allocate, "allocate")

    def _allocate(self) -> None:
        self._allocate_asked = False  # first: who is added from now on asks anew
        allocate_missing(self.account_id)

    def acquire_client_id(self, row: Strategy) -> int:
        """Take a client id, or a place on a shared connection."""
        return self.lines.acquire(row)

    def release_client_id(self, client_id: int) -> None:
        """Give a client id back."""
        self.answers_again(client_id)
        self.lines.release(client_id)

    def publish_run(self, row: StrategyRun) -> None:
        """Store and report a strategy's runtime state."""
        self.publisher.run(row)

    def interrupt_connect(self, symbol: str) -> None:
        """End a strategy's attempts to connect."""
        self.lines.interrupt(symbol)

    def forget_connection(self, symbol: str) -> None:
        """Forget the connection of a strategy that has ended."""
        self.lines.forget(symbol)

    # -- what strategies ask (strategies.ports.EnginePort)

    @property
    def ac(self) -> Any:
        """Return the ArcticDB client, opened at first use.

        Raises: ArcticUnavailableError.
        """
        if self._arctic_client is None:
            self._arctic_client = get_ac()
        return self._arctic_client

    @ac.setter
    def ac(self, client: Any) -> None:
        self._arctic_client = client

    def keep_bars(
        self, series: str, timeframe: str, bars: Any, use_rth: bool, after: datetime | None, of: Listing
    ) -> None:
        """Have bars stored that a strategy asked IB for: handed over as any process does, written within a second."""
        try:
            keep_bars(series, timeframe, bars, use_rth, after, of)
        finally:
            database.close()  # on a worker thread of a strategy's loop, which keeps connections open else

    @property
    def active_strategies(self) -> dict[str, Any]:
        """Return the instances that have not ended, by symbol."""
        return {runner.symbol: runner.strategy for runner in self.supervisor.alive() if runner.strategy is not None}

    async def connect_strategy(self, strategy: Any) -> IB:
        """Connect the strategy's own IB on the calling loop, retrying with backoff."""
        return await self.lines.connect(strategy)

    def make_broker(self, strategy: Any) -> Broker:
        """Return the live broker over the strategy's connection."""
        broker = LiveBroker(
            strategy.ib, strategy.symbol, None, engine=cast(Any, self), intents=self.intents, strategy=strategy
        )
        self.lines.routers.keep_broker(strategy.symbol, broker)
        return broker

    def strategy_changed(self, strategy: Any, state: str, message: str = "", traceback: str = "") -> None:
        """Take note of a lifecycle word from a strategy."""
        self.supervisor.strategy_changed(strategy, state, message, traceback)

    def strategy_beat(self, strategy: Any) -> None:
        """Take note that a strategy's loop lives."""
        self.answers_again(strategy.client_id)
        self.supervisor.beat(strategy)

    def log(self, strategy_symbol: str, text: str, level: str = "info") -> None:
        """Write a line for a strategy's page and into the log."""
        number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
        logging.getLogger(f"strategies.{strategy_symbol or 'engine'}").log(
            number, "%s", text, extra={"strategy": strategy_symbol}
        )

    def line_changed(self, client_id: int, role: str, name: str, connected: bool, message: str) -> None:
        """Show a connection of strategies; the drop copy speaks for those that hear nothing."""
        self.session.strategy_line_changed()
        self.publisher.connection(client_id, role, name, connected, message)

    def strategy_line_changed(self, symbol: str, connected: bool, message: str) -> None:
        """Show that a strategy's connection came or went."""
        self.supervisor.connection_changed(symbol, connected, message)
