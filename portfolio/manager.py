"""PortfolioManager: what strategies and the engine ask about whose money it is.

Owns: the interface of the seeds over ``services`` and ``queries``, and a cache of positions (60 s, dropped by every
fill).
Thread-safe: strategies call it from worker threads; each thread uses its own database connection and closes it after.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from django.db import close_old_connections, connection
from django.utils import timezone

from portfolio import queries, services
from portfolio.changes import books_version
from portfolio.consolidated import ConsolidatedRow, consolidated
from portfolio.daily import DailyPnl
from portfolio.facts import BreakFact, FoldResult
from portfolio.fx_cache import FXCache
from portfolio.models import Account
from portfolio.queries import PositionView, StrategySummary
from portfolio.rebalance import RebalanceLine, weights_now
from portfolio.valuation import the_account
from strategies.audit import storable
from strategies.events import FillSnapshot, StatusSnapshot, TradeSnapshot
from strategies.exceptions import LedgerError
from strategies.models import DISCRETIONARY, Strategy
from strategies.ports import StrategyPosition

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

CACHE_S = 60.0
P = ParamSpec("P")
R = TypeVar("R")
StatusRecorder = Callable[[str, TradeSnapshot, StatusSnapshot], Any]


def _reading(method: Callable[Concatenate[PortfolioManager, P], R]) -> Callable[Concatenate[PortfolioManager, P], R]:
    """Close the calling thread's connection afterwards: worker threads come and go, their connections would stay."""

    @wraps(method)
    def call(self: PortfolioManager, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        finally:
            if not connection.in_atomic_block:  # inside one it would take the caller's transaction away
                close_old_connections()

    return call


class PortfolioManager:
    """The books as the engine and its strategies see them."""

    def __init__(
        self,
        strategy_manager: Any = None,
        *,
        record_status: StatusRecorder | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.strategy_manager = strategy_manager
        self.record_status = record_status
        self._clock = clock
        self._lock = threading.Lock()
        self._cached: tuple[int, float, list[PositionView]] | None = None
        self._merged: tuple[int, float, list[ConsolidatedRow]] | None = None
        self._base_currency: str | None = None
        self._daily = DailyPnl()
        self.fx_cache = FXCache(self._account_or_none)

    async def process_fill(self, strategy: str, trade: TradeSnapshot | None, fill: FillSnapshot) -> FoldResult:
        """Book one fill for its strategy; booking it again changes nothing.

        Raises: LedgerError when it cannot be booked: nobody has that name, or it is of another account
        (other_account).
        """
        return await asyncio.to_thread(self._process_fill, strategy, fill)

    async def record_status_change(self, strategy: str, trade: TradeSnapshot, status: StatusSnapshot) -> Any:
        """Hand a status to the recorder of orders that the engine set.

        Raises: LedgerError when no recorder is set.
        """
        if self.record_status is None:
            raise LedgerError("No recorder of order states is set.", code="no_status_recorder")
        return await asyncio.to_thread(self.record_status, strategy, trade, status)

    @property
    def account_id(self) -> str:
        """The account that the books are kept for.

        Raises: LedgerError while none is known.
        """
        return self._account().account_id

    @property
    def base_currency(self) -> str | None:
        """The account's base currency, None until IB has said it; it never changes afterwards."""
        if self._base_currency is None:
            try:
                self._base_currency = self._account().base_currency or None
            except LedgerError:
                return None
        return self._base_currency

    @_reading
    def get_positions(self, force_refresh: bool = False) -> list[PositionView]:
        """Return every owner's open positions, at most 60 s old and never older than the last fill."""
        version, now = books_version(), self._clock()
        with self._lock:
            cached = self._cached
        if not force_refresh and cached and cached[0] == version and now - cached[1] < CACHE_S:
            return list(cached[2])
        rows = queries.positions()
        with self._lock:
            self._cached = (version, now, rows)
        return list(rows)

    def get_strategy_positions(self, strategy: str) -> list[StrategyPosition]:
        """Return what a strategy holds, flat positions left out."""
        return [
            StrategyPosition(
                con_id=row.con_id,
                symbol=row.symbol,
                sec_type=row.sec_type,
                currency=row.currency,
                quantity=row.quantity,
                average_cost=row.average_cost,
                multiplier=row.multiplier,
                realized_pnl=row.realized_pnl,
                mark=row.mark,
            )
            for row in self.get_positions()
            if row.owner == strategy
        ]

    def clear_cache(self) -> None:
        """Forget the cached positions."""
        with self._lock:
            self._cached = self._merged = None

    @_reading
    def calculate_strategy_equity(self, strategy: str) -> Decimal:
        """Return a strategy's equity in its own currency.

        Raises: LedgerError while it is unknown: nothing may be sized then.
        """
        return services.strategy_equity(the_account().account_id, strategy, timezone.now())

    @_reading
    def get_total_equity(self) -> Decimal:
        """Return IB's net liquidation in base currency.

        Raises: LedgerError while it is unknown.
        """
        account = the_account()
        return services.net_liquidation(account.account_id, account.base_currency)

    @_reading
    def get_portfolio_summary(self) -> dict[str, Any]:
        """Return the account at a glance by the names of ``queries.Summary``; no account, no figures."""
        found = queries.summary()
        return {"net_liquidation": None} if found is None else asdict(found)

    @_reading
    def get_strategy_summary(self, strategy: str) -> StrategySummary:
        """Return one strategy's books.

        Raises: NotFoundError for an unknown strategy.
        """
        return queries.strategy_summary(strategy)

    @_reading
    def get_daily_realized_pnl(self, strategy: str) -> Decimal:
        """Return what a strategy realised since midnight UTC, net of fees, in its own currency."""
        return self._daily.realized(the_account().account_id, strategy, timezone.now())

    async def reconcile_positions(self, force_refresh: bool = False) -> list[ConsolidatedRow]:
        """Return IB's positions divided among strategies and Discretionary, at most 60 s old.

        ``force_refresh`` has the engine that is attached compare the books with IB first. Nothing is ever moved, and
        twice the same books give twice the same rows.
        Raises: TransientError when IB did not answer: then nothing changed; LedgerError while no account is known.
        """
        return await asyncio.to_thread(self._reconcile_positions, force_refresh)

    @_reading
    def get_consolidated_positions(self, force_refresh: bool = False) -> list[ConsolidatedRow]:
        """Return what ``reconcile_positions`` returns, without asking IB.

        Raises: LedgerError while no account is known.
        """
        version, now = books_version(), self._clock()
        with self._lock:
            cached = self._merged
        if not force_refresh and cached and cached[0] == version and now - cached[1] < CACHE_S:
            return list(cached[2])
        rows = consolidated(the_account().account_id)
        with self._lock:
            self._merged = (version, now, rows)
        return list(rows)

    def get_ib_positions_for_frontend(self) -> list[dict[str, Any]]:
        """Return the consolidated positions as JSON can carry them: decimals as text, times ISO 8601, unknown null."""
        return [storable(asdict(row)) for row in self.get_consolidated_positions()]

    @_reading
    def get_strategy_equity_history(
        self, strategy: str, since: datetime | None = None, until: datetime | None = None
    ) -> pd.DataFrame:
        """Return an owner's equity over time; an empty strategy is the account.

        Shape: index ``ts`` UTC, increasing; columns equity, cash, realized_pnl, unrealized_pnl (float64, NaN unknown)
        and currency.
        """
        import pandas as pd

        names = ("equity", "cash", "realized_pnl", "unrealized_pnl")
        points = queries.equity_series(strategy, since, until)
        index = pd.DatetimeIndex([row.taken_at for row in points], tz="UTC", name="ts")
        table = {
            name: [float("nan") if (value := getattr(row, name)) is None else float(value) for row in points]
            for name in names
        }
        frame = pd.DataFrame(table, index=index, dtype="float64")
        frame["currency"] = [row.currency for row in points]
        return frame

    @_reading
    def get_strategy_weights(self) -> list[RebalanceLine]:
        """Return every strategy's weight of now beside its target.

        Raises: LedgerError while no account is known.
        """
        return weights_now(the_account().account_id, now=timezone.now())

    @_reading
    def compare_positions(self, ib_positions: Mapping[int, Decimal], at: datetime | None = None) -> list[BreakFact]:
        """Compare IB's complete positions with the books; differences become breaks, nothing is moved."""
        return services.compare_positions(the_account().account_id, ib_positions, at or timezone.now())

    def update_ib_connection(self, ib: Any = None) -> None:
        """Take note of another connection to IB: what was learnt over the last one is asked for again."""
        self.clear_cache()
        self.fx_cache.clear()

    def start_hourly_snapshots(self) -> None:
        """Have the engine keep the books of every hour, as it does unless stopped.

        Raises: LedgerError without an engine: only it writes the books.
        """
        self._schedule().keeps_hours = True

    def stop_hourly_snapshots(self) -> None:
        """Have the engine keep no more hours until started again; hours that pass stay empty.

        Raises: LedgerError without an engine.
        """
        self._schedule().keeps_hours = False

    def _schedule(self) -> Any:
        schedule = getattr(self.strategy_manager, "schedule", None)
        if schedule is None:
            raise LedgerError("No engine is attached; it alone keeps the hours.", code="no_engine")
        return schedule

    @_reading
    def _reconcile_positions(self, force_refresh: bool) -> list[ConsolidatedRow]:
        session = getattr(self.strategy_manager, "session", None)
        if force_refresh and session is not None:
            session.reconcile()
        return self.get_consolidated_positions(force_refresh)

    def _account_or_none(self) -> str | None:
        try:
            return self.account_id
        except LedgerError:
            return None

    @_reading
    def _account(self) -> Account:
        return the_account()

    @_reading
    def _process_fill(self, strategy: str, fill: FillSnapshot) -> FoldResult:
        account = the_account().account_id
        if fill.account not in ("", account):
            raise LedgerError(
                f"Execution {fill.exec_id} is of account {fill.account}, the books are of {account}.",
                code="other_account",
                exec_id=fill.exec_id,
            )
        if strategy != DISCRETIONARY and not Strategy.objects.filter(symbol=strategy).exists():
            raise LedgerError(f"There is no strategy {strategy} that could own {fill.exec_id}.", code="unknown_owner")
        result = services.fold_batch(account, [fill], lambda _: strategy, timezone.now())
        self.clear_cache()
        return result
