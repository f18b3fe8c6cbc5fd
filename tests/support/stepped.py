"""Bars that a gateway steps through and a backtest runs over, and the engine's way from one bar to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from portfolio.models import CashBalance, Execution, Position
from strategies.bar_series import BarSeries, Nanos
from strategies.intervals import parse_interval
from tests.e2e.engine.harness import Rig, ledger_executions, until
from tests.support.backtests import MINUTE_NS
from trading.backtest.contracts import BacktestResult, BacktestSpec, InstrumentTerms, Models, StrategyEntry
from trading.market.calendars import build_table
from trading.market.session_table import SessionTable
from trading.models import Order
from trading.orders import queries
from trading.orders.state import OrderState

CENT = Decimal("0.01")
# A gateway's quotes lie one tick from its prices, and it was told to fill orders whole.
AS_AT_THE_GATEWAY = Models(half_spread=CENT, participation=None)
ON_ITS_WAY = [str(state) for state in (OrderState.INTENT, OrderState.SENT)]
Row = tuple[datetime, str, str, str, str]
"""Minute of the bar, symbol, signed quantity, price, commission."""


def plain(number: Decimal) -> str:
    """Return a number as it is compared: without trailing zeros."""
    return f"{number.normalize():f}"


@lru_cache(maxsize=4)
def _year(year: int) -> SessionTable:
    return build_table("US_EQUITY", date(year, 1, 1), date(year, 12, 31))


def session_minutes(day: date, first: int, count: int) -> Nanos:
    """Return the starts of minutes of New York's session of a day, from the ``first`` after the open on."""
    table = _year(day.year)
    opens = int(table.opens[np.searchsorted(table.days, np.datetime64(day))])
    return np.arange(first, first + count, dtype=np.int64) * MINUTE_NS + opens


def walk(symbol: str, starts: Nanos, seed: int, price: float = 300.0, step: float = 0.12) -> BarSeries:
    """Return bars in whole cents that gap, trend and turn; a seed gives the same bars always."""
    random = np.random.default_rng(seed)
    count = len(starts)
    close = price + np.cumsum(random.normal(0, step, count) + step * 0.4 * np.sin(np.arange(count) / 9))
    opens = np.concatenate(([price], close[:-1])) + random.normal(0, step / 3, count)
    high = np.maximum(opens, close) + np.abs(random.normal(0, step, count))
    low = np.minimum(opens, close) - np.abs(random.normal(0, step, count))
    columns = [np.round(column, 2) for column in (opens, high, low, close)]
    columns[1] = np.maximum.reduce(columns)
    columns[2] = np.minimum.reduce(columns)
    volume = np.round(random.uniform(2_000, 9_000, count))
    return BarSeries.from_columns(symbol, "1m", starts, [*columns, volume])


def write_bars(path: Path, series: Sequence[BarSeries]) -> Path:
    """Write bars as the gateway and the command ``backtest`` read them."""
    parts = []
    for each in series:
        starts, columns = each.whole()
        names = ("open", "high", "low", "close", "volume")
        stamps = pa.array(starts.astype("datetime64[ns]").astype("datetime64[us]"), pa.timestamp("us", "UTC"))
        parts.append(
            pa.table(
                {
                    "symbol": [each.symbol] * len(starts),
                    "ts": stamps,
                    **dict(zip(names, map(np.asarray, columns), strict=True)),
                }
            )
        )
    pq.write_table(pa.concat_tables(parts), path)
    return path


def fresh(series: BarSeries) -> BarSeries:
    """Return the same bars with a cursor of their own."""
    starts, columns = series.whole()
    return BarSeries.from_columns(series.symbol, series.interval, starts, columns)


def spec_from(entries: Sequence[StrategyEntry], series: Sequence[BarSeries], first: datetime) -> BacktestSpec:
    """Return a run as the gateway has it: the same half spread, whole fills, the tick of US stocks."""
    symbols = {each.symbol for each in series}
    return BacktestSpec(
        strategies=entries,
        bars={(each.symbol, each.interval): fresh(each) for each in series},
        start=first,
        end=datetime(2100, 1, 1, tzinfo=UTC),
        models=AS_AT_THE_GATEWAY,
        instruments={symbol: InstrumentTerms(symbol, tick=CENT) for symbol in symbols},
    )


def backtest_rows(result: BacktestResult, name: str) -> list[Row]:
    """Return the fills of one strategy of a run."""
    return sorted(
        (
            datetime.fromtimestamp(fill.time_ns // 1_000_000_000, UTC),
            fill.symbol,
            plain(fill.quantity),
            plain(fill.price),
            plain(fill.fee),
        )
        for fill in result.fills
        if fill.strategy == name
    )


def live_rows(owner: str) -> list[Row]:
    """Return the fills of one strategy in the ledger; a fill on the way belongs to the minute that it lies in."""
    rows = Execution.objects.filter(owner=owner).select_related("instrument")
    return sorted(
        (
            row.executed_at.replace(second=0, microsecond=0),
            row.instrument.symbol,
            plain(row.quantity),
            plain(row.price),
            plain(Decimal("NaN") if row.commission is None else row.commission),
        )
        for row in rows
    )


def cash_of(owner: str) -> Decimal:
    """Return what the ledger says that a strategy has, in dollars."""
    return CashBalance.objects.get(owner=owner, currency="USD").amount


def held_by(owner: str) -> dict[str, Decimal]:
    """Return what the ledger says that a strategy holds, by ticker."""
    rows = Position.objects.filter(owner=owner).exclude(quantity=0).select_related("instrument")
    return {row.instrument.symbol: row.quantity for row in rows}


@dataclass
class SteppedEngine:
    """An engine that lives on a stepped gateway: each bar passes, is booked, is told, is answered."""

    rig: Rig
    strategies: Mapping[str, Any]  # the running ones, by name

    def step(self) -> datetime:
        """Let one bar pass; return its end, when every strategy has done what it wanted to do then."""
        stepper = self.rig.gateway.server.stepper
        heard = {name: self._heard(one) for name, one in self.strategies.items()}
        if self.rig.gateway.call(stepper.pass_bar):
            until(self._is_booked, 30.0, "fills in the ledger")
        until(self._orders_agree, 30.0, "states of orders in the ledger")
        end = self.rig.gateway.call(stepper.end_bar)
        for name, one in self.strategies.items():
            wanted = heard[name] + _told_at(one, end)
            until(lambda one=one, wanted=wanted: self._heard(one) >= wanted, 30.0, f"{name} told of {end}")  # type: ignore[misc]
            until(lambda one=one: one.worker.get_subscription().is_ready(), 30.0, f"{name} done")  # type: ignore[misc]
            self.rig.on_loop(one, _after_hooks(one), 30.0)
        until(self._is_sent, 30.0, "orders acknowledged")
        return end

    @staticmethod
    def _heard(one: Any) -> int:
        return int(one.worker.get_metrics()["notifications_processed"])

    def _is_booked(self) -> bool:
        return (
            self.rig.broker_executions() <= ledger_executions()
            and not Execution.objects.filter(commission=None).exists()
        )

    def _orders_agree(self) -> bool:
        """Tell whether the ledger's working orders are the gateway's."""
        venue = self.rig.gateway.venue
        there = self.rig.gateway.call(lambda: {one.request.order_ref for one in venue.open_orders()})
        return there == set(queries.working_refs())

    def _is_sent(self) -> bool:
        return not Order.objects.filter(state__in=ON_ITS_WAY).exists() and self._orders_agree()


def _told_at(one: Any, end: datetime) -> int:
    """Return how many bars of a strategy are over now, where every symbol has every minute."""
    moment = int(end.timestamp())
    return sum(moment % parse_interval(interval).seconds == 0 for _, interval in one.reactive.get_subscriptions())


async def _after_hooks(one: Any) -> None:
    """Return when what waits for a strategy on its loop has been done."""
    done = asyncio.Event()
    one._enqueue(done.set)
    await asyncio.wait_for(done.wait(), 25.0)


__all__ = [
    "AS_AT_THE_GATEWAY", "CENT", "Row", "SteppedEngine", "backtest_rows", "cash_of", "fresh", "held_by", "live_rows",
    "session_minutes", "spec_from", "walk", "write_bars",
]  # fmt: skip
