"""How an owner, or the account, has done: returns, risk, exposure, turnover, costs, trades.

Owns: the question and the answer as plain values. Leaves: flows and the chain of returns (``returns``), the ratios
(``metrics``, by empyrical), bars of the benchmark (``arctic``).
Rule: what cannot be told is None with its reason in ``reasons``, never zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from portfolio.accounts import rates_of
from portfolio.fx_history import PastRates
from portfolio.ledger.fx import Rates
from portfolio.ledger.money import ZERO, exact
from portfolio.models import Account, HourlySnapshot
from portfolio.returns import Flow, Point, RatesAt, Trade, daily_returns, equity_points, flows_of, trades_of
from portfolio.valuation import currency_of, the_account
from strategies.exceptions import LedgerError, MatsError

if TYPE_CHECKING:
    import pandas as pd

    from portfolio.arctic.client import ArcticClient


@dataclass(frozen=True, slots=True)
class DayPoint:
    """One day: its return, the growth since the start and the fall from the highest point; fractions."""

    day: date
    value: float
    cumulative: float
    drawdown: float


@dataclass(frozen=True, slots=True)
class ExposurePoint:
    """What was held at the top of an hour, as fractions of equity."""

    at: datetime
    gross: float
    net: float


@dataclass(slots=True)
class Performance:
    """An owner's record; owner "" is the account.

    Units: ratios and returns are fractions, yearly where the name is a yearly figure; money in ``currency``.
    None is unknown: ``reasons`` says why, by the field's name.
    """

    owner: str
    currency: str
    since: datetime | None
    until: datetime
    days: int = 0
    profit: Decimal | None = None
    net_flows: Decimal | None = None
    cumulative: float | None = None
    cagr: float | None = None
    volatility: float | None = None
    sharpe: float | None = None
    sortino: float | None = None
    max_drawdown: float | None = None
    drawdown_from: date | None = None
    drawdown_to: date | None = None
    drawdown_recovered: date | None = None
    calmar: float | None = None
    benchmark: str = ""
    benchmark_return: float | None = None
    alpha: float | None = None
    beta: float | None = None
    information_ratio: float | None = None
    gross_exposure: float | None = None  # average
    net_exposure: float | None = None  # average
    traded_value: Decimal | None = None
    turnover: float | None = None  # traded value over average equity
    commissions: Decimal | None = None
    cost_per_traded: float | None = None
    cost_per_equity: float | None = None
    trades: int = 0  # executions that closed something with a gain or a loss
    win_rate: float | None = None
    profit_factor: float | None = None
    average_win: Decimal | None = None
    average_loss: Decimal | None = None
    daily: list[DayPoint] = field(default_factory=list)
    exposure: list[ExposurePoint] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)

    def tell(self, values: dict[str, Any], reasons: dict[str, str]) -> None:
        """Take figures by name, with the reasons of those that are None."""
        for name, value in values.items():
            setattr(self, name, value)
        self.reasons.update(reasons)


def performance(
    owner: str,
    since: datetime | None = None,
    until: datetime | None = None,
    benchmark: str | None = None,
    *,
    account_id: str | None = None,
    client: ArcticClient | None = None,
) -> Performance:
    """Return an owner's record between two moments, by default its whole life.

    ``benchmark`` is a symbol in the library market_data; None takes the account's, an empty text none.
    Raises: LedgerError while no account or base currency is known.
    """
    account = Account.objects.get(pk=account_id) if account_id else the_account()
    until = until or datetime.now(UTC)
    rates = rates_of(account.account_id)
    currency = currency_of(owner, rates.base) if owner else rates.base
    found = Performance(owner, currency, since, until, benchmark=account.benchmark if benchmark is None else benchmark)
    points, past = equity_points(account.account_id, owner, since, until), PastRates(rates)
    try:
        start = points[0].at if points else since
        flows = flows_of(account.account_id, owner, start, until, currency, rates, rates_at=past)
        trades = trades_of(account.account_id, owner, since, until, currency, rates, rates_at=past)
    except LedgerError as error:
        found.reasons["cumulative"] = error.message
        return found
    _tell_returns(found, points, flows, client)
    _tell_trades(found, trades)
    _tell_costs(found, trades, points)
    _tell_exposure(found, account.account_id, past)
    return found


def _tell_returns(
    found: Performance, points: Sequence[Point], flows: Sequence[Flow], client: ArcticClient | None
) -> None:
    from portfolio import metrics

    returns = daily_returns(points, flows)
    found.days = len(returns)
    if len(points) >= 2:
        inside = [flow.amount for flow in flows if flow.at <= points[-1].at]
        found.net_flows = sum(inside, ZERO)
        found.profit = points[-1].equity - points[0].equity - found.net_flows
    else:
        found.reasons["profit"] = "Fewer than two equities are known."
    ratios = metrics.ratios_of(returns)
    found.tell(ratios.values, ratios.reasons)
    found.daily = [DayPoint(*row) for row in metrics.curves_of(returns)] if returns else []
    if not found.benchmark:
        found.reasons["benchmark"] = "No benchmark is set."
        return
    try:
        closes = _closes(found.benchmark, points, client)
    except MatsError as error:
        found.reasons["benchmark"] = error.message
        return
    if closes.empty:
        found.reasons["benchmark"] = f"market_data has no daily bars of {found.benchmark} for these days."
        return
    compared = metrics.against(returns, closes)
    found.tell(compared.values, compared.reasons)


def _closes(symbol: str, points: Sequence[Point], client: ArcticClient | None) -> pd.Series:
    """Return a benchmark's daily closes, from some days before the first equity on."""
    from portfolio.arctic.client import get_ac
    from portfolio.arctic.market_data import read_bars

    start = points[0].at - timedelta(days=10) if points else None
    closes: pd.Series = read_bars(client or get_ac(), symbol, "1_day", start=start)["close"]
    return closes


def _tell_trades(found: Performance, trades: Sequence[Trade]) -> None:
    results = [trade.gross - trade.fee for trade in trades if trade.gross]
    wins = [result for result in results if result > 0]
    losses = [result for result in results if result < 0]
    found.trades = len(results)
    if not results:
        found.reasons["win_rate"] = "Nothing was closed with a gain or a loss."
        return
    found.win_rate = len(wins) / len(results)
    found.average_win = exact(sum(wins, ZERO) / len(wins)) if wins else None
    found.average_loss = exact(sum(losses, ZERO) / len(losses)) if losses else None
    if losses:
        found.profit_factor = float(sum(wins, ZERO) / -sum(losses, ZERO))
    else:
        found.reasons["profit_factor"] = "There was no loss."


def _tell_costs(found: Performance, trades: Sequence[Trade], points: Sequence[Point]) -> None:
    found.traded_value = sum((trade.traded for trade in trades), ZERO)
    found.commissions = sum((trade.fee for trade in trades), ZERO)
    if found.traded_value:
        found.cost_per_traded = float(found.commissions / found.traded_value)
    else:
        found.reasons["cost_per_traded"] = "Nothing was traded."
    average = sum((point.equity for point in points), ZERO) / len(points) if points else ZERO
    if average > 0:
        found.turnover = float(found.traded_value / average)
        found.cost_per_equity = float(found.commissions / average)
    else:
        found.reasons["turnover"] = found.reasons["cost_per_equity"] = (
            "The average equity is not known or not positive."
        )


def _tell_exposure(found: Performance, account_id: str, rates_at: RatesAt) -> None:
    rows = HourlySnapshot.objects.filter(account_id=account_id, hour__lte=found.until).order_by("hour")
    if found.since is not None:
        rows = rows.filter(hour__gte=found.since)
    rows = rows.filter(owner=found.owner) if found.owner else rows
    by_hour: dict[datetime, list[HourlySnapshot]] = {}
    for row in rows:
        by_hour.setdefault(row.hour, []).append(row)
    for hour, parts in by_hour.items():
        point = _exposure(hour, parts, found, rates_at(hour))
        if point is not None:
            found.exposure.append(point)
    if not found.exposure:
        found.reasons["gross_exposure"] = "No hourly snapshot is complete."
        return
    count = len(found.exposure)
    found.gross_exposure = sum(point.gross for point in found.exposure) / count
    found.net_exposure = sum(point.net for point in found.exposure) / count


def _exposure(hour: datetime, parts: list[HourlySnapshot], found: Performance, rates: Rates) -> ExposurePoint | None:
    """Return the exposure of an hour, None when a price, a rate or the equity in it is missing."""
    equity = next((row.equity for row in parts if row.owner == found.owner), None)
    if equity is None or equity <= 0:
        return None
    gross = net = ZERO
    for row in (row for part in parts for row in part.positions if row["row_type"] == "POSITION"):
        if Decimal(row["quantity"]) == 0:
            continue
        if row["mark"] is None:
            return None
        value = Decimal(row["quantity"]) * Decimal(row["mark"]) * Decimal(row["multiplier"])
        try:
            worth = rates.convert(exact(value), row["currency"], found.currency)
        except LedgerError:
            return None
        gross, net = gross + abs(worth), net + worth
    return ExposurePoint(hour, float(gross / equity), float(net / equity))
