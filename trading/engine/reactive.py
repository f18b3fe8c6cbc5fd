"""A reactive strategy in the engine: its life is every strategy's, its decisions are made on a thread of its own.

Owns: the thread that runs the strategy's code, the bars that it follows, the way of its signals to its executor, edited
parameters. Leaves: start, stop, connection and failure (``strategies.life``), bars (``live_market``), orders
(``live_orders``, ``signal_executor``).
Rule: the strategy's code never runs on a loop, so that a slow one on a shared connection holds up nobody. Signals are
carried out in their order, one at a time. An error at a bar is told and the strategy goes on; many in a row, or
``sys.exit``, end it as any failure does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

from strategies.bar_series import BarSeries, moment_of
from strategies.base import BaseStrategy
from strategies.exceptions import StrategyError
from strategies.life import BEAT_S, UNWIND_S
from strategies.ports import EnginePort
from strategies.reactive import IndicatorView, ReactiveStrategy, Signal, StrategyContext
from trading.engine.live_market import LiveMarket
from trading.engine.live_orders import Canceller, LiveOrders
from trading.market.dispatcher import checked_pairs
from trading.market.indicators.registry import make_request
from trading.market.live_feed import Feed, Following
from trading.market.session_data import EMPTY, NOTHING
from trading.market.signal_executor import SignalExecutor
from trading.market.signal_rules import gates_of
from trading.market.strategy_thread import StrategyThread
from trading.market.subscription import LIVE

logger = logging.getLogger(__name__)

MOST_ERRORS_IN_A_ROW = 10
T = TypeVar("T")


class LiveClock:
    """The present of a live strategy: the end of the instant it was told of, and what passed since."""

    def __init__(self) -> None:
        self._told: tuple[int, float] | None = None

    def set(self, end_ns: int) -> None:
        """Take the end of an instant."""
        self._told = end_ns, time.monotonic()

    def get_current_time(self) -> datetime:
        """Return the present, aware UTC; before the first bar it is the real one."""
        told = self._told
        if told is None:
            return datetime.now(UTC)
        return moment_of(told[0] + int((time.monotonic() - told[1]) * 1e9))


class LiveData:
    """A strategy's view of the live bars it follows. Read on its own thread."""

    def __init__(self, market: LiveMarket) -> None:
        self._market = market
        self._followed: Mapping[str, Following] = {}
        self._views: dict[tuple[Any, ...], IndicatorView] = {}

    def replace(self, followed: Mapping[str, Following]) -> None:
        """Take what is followed now, by symbol."""
        self._followed = followed
        self._views = {}

    def get_bars_ref(self, symbol: str, interval: str) -> BarSeries:
        """Return the closed bars; an unknown pair is an empty series."""
        feed = self._feed(symbol, interval)
        return EMPTY if feed is None else feed.series

    def _feed(self, symbol: str, interval: str) -> Feed | None:
        following = self._followed.get(symbol)
        return None if following is None else following.feeds.get(interval)

    def get_bar_quality(self, symbol: str, interval: str) -> float:
        """Return how complete today's bars are, 0–100; 0.0 for an unknown pair."""
        following = self._followed.get(symbol)
        return 0.0 if following is None else self._market.quality(following, interval)

    def get_indicator(
        self, symbol: str, interval: str, name: str, period: int = 0, **params: float | str
    ) -> IndicatorView:
        """Return an indicator of the followed bars; of an unknown pair one without values.

        Raises: ConfigError (unknown_indicator, bad_indicator).
        """
        key = (symbol, interval, name, period, *sorted(params.items()))
        found = self._views.get(key)
        if found is None:
            feed = self._feed(symbol, interval)
            if feed is None:
                make_request(name, interval, period, params)  # what is spelled wrongly is told in any case
                return NOTHING
            found = self._views[key] = feed.indicator(name, period, params)
        return found


class ReactiveLife(BaseStrategy):
    """The life of one reactive strategy."""

    def __init__(
        self,
        client_id: int,
        strategy_manager: EnginePort,
        params: Mapping[str, Any],
        *,
        strategy_symbol: str,
        cls: type[ReactiveStrategy],
        market: LiveMarket,
        canceller: Canceller,
    ) -> None:
        super().__init__(client_id, strategy_manager, params, strategy_symbol=strategy_symbol)
        self.reactive = cls(strategy_symbol, self.params)
        self._market = market
        self._clock, self._live_data = LiveClock(), LiveData(market)
        self._context = StrategyContext(self._live_data, self._clock, strategy_manager, LIVE)
        self._orders = LiveOrders(self, market, canceller, self._live_data)
        self._followed: dict[str, Following] = {}
        self._turn_ns = 0
        self._is_set_up = False
        self.worker = StrategyThread(
            self.reactive, self._context, LIVE, on_signals=self._on_signals, on_trouble=self._on_trouble
        )
        self._make_executor()

    def _make_executor(self) -> None:
        before = getattr(self, "executor", None)
        self.executor = SignalExecutor(
            self.symbol,
            self._orders,
            gates_of(self.params, allow_short=True, trading=self.params),
            self.log,
            allow_repeats=bool(self.params.get("allow_repeats", False)),
        )
        if before is not None:
            self.executor.figures = before.figures

    # -- life

    async def initialize_strategy(self) -> None:
        """Set the strategy up on its thread, then follow what it subscribes to, warmed up."""
        self.worker.start()
        self._is_set_up = True
        if not await self._on_worker(lambda: self.reactive.setup(self._context)):
            raise StrategyError(
                f"{self.symbol} refused to start: its setup returned False; its log says why.", code="setup_refused"
            )
        await self._follow()

    async def run_strategy(self) -> None:
        """Wait: every decision is made at a bar."""
        await self.until_stopped()

    async def on_params_changed(self) -> None:
        """Hand the new parameters to the strategy; what it subscribes to may change with them."""
        config = dict(self.params)
        if not await self._on_worker(lambda: self.reactive.on_config_changed(config)):
            raise StrategyError(f"{self.symbol} refused its new parameters; its log says why.", code="setup_refused")
        self._make_executor()
        await self._follow()

    async def _cleanup(self) -> None:
        if not self._cleaned:
            await self._end_worker()
        await super()._cleanup()

    async def _end_worker(self) -> None:
        followed, self._followed = self._followed, {}
        for following in followed.values():
            self._market.unfollow(following)
        if self._is_set_up and self.worker.is_alive():
            ending = self.worker.finish(lambda: self.reactive.teardown(self._context))
            try:
                await asyncio.wait_for(asyncio.wrap_future(ending), UNWIND_S)
            except TimeoutError:
                self.log(f"Its code still runs after {UNWIND_S:g} s and was not torn down.", "error")
            except Exception as error:  # user-code border
                logger.exception("strategy=%s teardown failed", self.symbol)
                self.log(f"Its teardown failed: {type(error).__name__}: {error}", "error")
        self.worker.stop()

    async def _beat(self) -> None:
        """Give a sign of life while both the loop and the strategy's own code move on."""
        while True:
            if self.worker.busy_s() < BEAT_S:
                self.strategy_manager.strategy_beat(self)
            await asyncio.sleep(BEAT_S)

    def get_status(self) -> dict[str, Any]:
        """Return what status pages show; safe to call from any thread."""
        return {**super().get_status(), "kind": "reactive", **self.figures()}

    def figures(self) -> dict[str, Any]:
        """Return the figures of bars and signals; safe to call from any thread."""
        return {
            "metrics": self.worker.get_metrics(),
            "signals": self.executor.figures.as_dict(),
            "followed": [
                {
                    "symbol": symbol,
                    "interval": interval,
                    "bars": len(feed.series),
                    "quality": round(self._market.quality(one, interval), 1),
                }
                for symbol, one in self._followed.items()
                for interval, feed in one.feeds.items()
            ],
        }

    # -- the strategy's thread

    async def _on_worker(self, work: Callable[[], T]) -> T:
        future: Future[T] = self.worker.call(work)
        return await asyncio.wrap_future(future)

    def _on_signals(self, symbol: str, interval: str, signals: Sequence[Signal]) -> None:
        self._soon(self._enqueue, self.executor_turn, interval, list(signals))

    async def executor_turn(self, interval: str, signals: Sequence[Signal]) -> None:
        """Carry out what one bar brought."""
        await self.executor.execute(interval, signals)

    def _on_trouble(self, text: str, error: BaseException | None) -> None:
        if self.worker.failure is not None:
            self._soon(self._end_by, StrategyError(f"{self.symbol}: {text}", code="strategy_thread_ended"))
        elif self.worker.errors_in_a_row >= MOST_ERRORS_IN_A_ROW:
            failed = StrategyError(
                f"{MOST_ERRORS_IN_A_ROW} bars in a row failed; the last: {text}", code="on_bars_failed"
            )
            failed.__cause__ = error
            self._soon(self._end_by, failed)

    def _soon(self, work: Callable[..., Any], *args: Any) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # closed meanwhile: its life is over
                loop.call_soon_threadsafe(work, *args)

    # -- bars

    async def _follow(self) -> None:
        """Follow what the strategy subscribes to now, and no more what it did before."""
        wanted: dict[str, list[str]] = {}
        for symbol, interval in checked_pairs(await self._on_worker(self.reactive.get_subscriptions)):
            wanted.setdefault(symbol, []).append(interval)
        if not wanted:
            self.log("It subscribes to nothing, so it will not be told of any bar.", "warning")
        before = self._followed
        for symbol, intervals in wanted.items():
            contract = await self._orders.contract_of(symbol)
            following = await self._market.follow(
                contract,
                intervals,
                warm_up=self.reactive.warm_up_bars,
                regular_hours=bool(self.params.get("regular_hours", True)),
                on_turn=self._turn_of(symbol),
                on_trouble=lambda text: self.log(text, "warning"),
            )
            old = before.get(symbol)
            self._followed = {**self._followed, symbol: following}
            self._live_data.replace(self._followed)
            if old is not None:
                self._market.unfollow(old)
        for symbol in before.keys() - wanted.keys():
            self._market.unfollow(before[symbol])
        self._followed = {symbol: one for symbol, one in self._followed.items() if symbol in wanted}
        self._live_data.replace(self._followed)

    def _turn_of(self, symbol: str) -> Callable[[int, int, Sequence[str]], None]:
        def _on_turn(con_id: int, end_ns: int, intervals: Sequence[str]) -> None:
            """Tell the strategy of an instant; on the loop of the market data."""
            if not self.is_running or not self._initialized.is_set():
                return
            if end_ns != self._turn_ns:  # bars of several symbols are one instant
                self._turn_ns = end_ns
                self.worker.get_subscription().reset()
                self._clock.set(end_ns)
            for interval in intervals:
                self.worker.notify(symbol, interval)

        return _on_turn
