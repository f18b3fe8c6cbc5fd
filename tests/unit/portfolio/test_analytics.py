"""Performance: flows are no gains, ratios need days, what cannot be told says why."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from portfolio import metrics
from portfolio.analytics import performance
from portfolio.arctic.client import ArcticClient
from portfolio.arctic.market_data import write_bars
from portfolio.arctic.writer import ArcticWriter
from portfolio.fx_history import PastRates
from portfolio.hourly import hour_of, take_hourly_snapshot
from portfolio.models import Account
from portfolio.returns import Flow, Point, daily_returns, flows_of
from portfolio.services import (
    allocate_strategy,
    ensure_account,
    fold_batch,
    open_account,
    rates_of,
    record_account_values,
    record_marks,
    take_equity_snapshot,
)
from strategies.models import Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fee, fill, owner_of

MONDAY = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def point(hours: int, equity: str | int) -> Point:
    return Point(MONDAY + hours * HOUR, Decimal(equity))


class TestReturns:
    def test_deposit_is_no_gain(self) -> None:
        flows = [Flow(MONDAY + HOUR / 2, Decimal(1_000))]
        assert daily_returns([point(0, 100), point(1, 1_100)], flows) == {date(2026, 3, 2): 0.0}

    def test_withdrawal_is_no_loss(self) -> None:
        flows = [Flow(MONDAY + HOUR / 2, Decimal(-90))]
        assert daily_returns([point(0, 100), point(1, 20)], flows) == {date(2026, 3, 2): pytest.approx(0.1)}

    def test_hours_chain_into_days(self) -> None:
        points = [point(0, 100), point(1, 110), point(2, 121)]
        assert daily_returns(points, []) == {date(2026, 3, 2): pytest.approx(0.21)}

    def test_weekend_counts_to_monday(self) -> None:
        saturday = 5 * 24
        points = [point(saturday, 100), point(saturday + 1, 110), point(saturday + 48, 121)]
        assert daily_returns(points, []) == {date(2026, 3, 9): pytest.approx(0.21)}

    def test_return_on_nothing_does_not_exist(self) -> None:
        assert daily_returns([point(0, 0), point(1, 5), point(2, 6)], []) == {date(2026, 3, 2): pytest.approx(0.2)}

    def test_flow_before_the_first_equity_is_in_it_already(self) -> None:
        flows = [Flow(MONDAY - HOUR, Decimal(100)), Flow(MONDAY, Decimal(100))]
        assert daily_returns([point(0, 100), point(1, 110)], flows) == {date(2026, 3, 2): pytest.approx(0.1)}


def business_days(count: int) -> list[date]:
    return [stamp.date() for stamp in pd.bdate_range("2026-01-01", periods=count)]


class TestRatios:
    def test_few_days_give_no_yearly_figure(self) -> None:
        found = metrics.ratios_of(dict.fromkeys(business_days(metrics.FEW - 1), 0.001))
        assert found.values["cumulative"] == pytest.approx(1.001**19 - 1)
        assert {found.values[name] for name in ("cagr", "volatility", "sharpe", "sortino", "calmar")} == {None}
        assert "19 days" in found.reasons["sharpe"]

    def test_figures_agree_with_their_definitions(self) -> None:
        rng = np.random.default_rng(7)
        values = rng.normal(0.0005, 0.01, 300)
        found = metrics.ratios_of(dict(zip(business_days(300), values, strict=True))).values
        assert found["volatility"] == pytest.approx(values.std(ddof=1) * 261**0.5)
        assert found["sharpe"] == pytest.approx(values.mean() / values.std(ddof=1) * 261**0.5)
        assert found["cagr"] == pytest.approx(np.prod(1 + values) ** (261 / 300) - 1)
        wealth = np.cumprod(1 + values)
        falls = wealth / np.maximum.accumulate(np.maximum(wealth, 1.0)) - 1
        assert found["max_drawdown"] == pytest.approx(falls.min())
        assert found["drawdown_to"] == business_days(300)[int(falls.argmin())]

    def test_nothing_that_varies_gives_no_sharpe(self) -> None:
        found = metrics.ratios_of(dict.fromkeys(business_days(30), 0.001))
        assert found.values["sharpe"] is None
        assert "nothing varied" in found.reasons["sharpe"]

    def test_drawdown_names_top_bottom_and_recovery(self) -> None:
        days = business_days(5)
        found = metrics.ratios_of(dict(zip(days, (0.1, -0.2, -0.1, 0.2, 0.3), strict=True))).values
        assert found["max_drawdown"] == pytest.approx(-0.28)
        assert (found["drawdown_from"], found["drawdown_to"], found["drawdown_recovered"]) == (
            days[0],
            days[2],
            days[4],
        )

    def test_owner_that_doubles_the_benchmark_has_beta_two_and_no_alpha(self) -> None:
        days = business_days(60)
        moves = np.random.default_rng(3).normal(0, 0.01, 60)
        stamps = pd.DatetimeIndex([days[0] - timedelta(days=1), *days]).tz_localize("UTC")
        closes = pd.Series(100 * np.cumprod([1.0, *(1 + moves)]), index=stamps)
        found = metrics.against(dict(zip(days, 2 * moves, strict=True)), closes).values
        assert found["beta"] == pytest.approx(2)
        assert found["alpha"] == pytest.approx(0, abs=1e-9)


@pytest.mark.django_db
class TestPerformance:
    @pytest.fixture(autouse=True)
    def _books(self) -> None:
        Strategy.objects.create(symbol="ALPHA", filename="a.py", target_weight=Decimal("0.2"))
        ensure_account(ACCOUNT, "USD")
        open_account(ACCOUNT, {"USD": Decimal(100_000)}, [], [], NOW)
        allocate_strategy(ACCOUNT, "ALPHA", Decimal(20_000), "USD", NOW)
        take_equity_snapshot(ACCOUNT, NOW)

    def trade(self, sold_at: int = 55) -> None:
        fold_batch(ACCOUNT, [fill(1, 100, 50), fee(1, "1"), fill(2, -40, sold_at), fee(2, "2")], owner_of, NOW)
        record_marks({265598: Decimal(52)}, NOW)
        record_account_values(ACCOUNT, [("NetLiquidation", "100317", "USD")], NOW)

    def test_profit_trades_and_costs_of_a_strategy(self) -> None:
        self.trade()
        take_equity_snapshot(ACCOUNT, NOW + HOUR)
        found = performance("ALPHA", until=NOW + HOUR)
        assert (found.profit, found.net_flows) == (200 + 120 - 3, 0)
        assert found.cumulative == pytest.approx(317 / 20_000)
        assert (found.traded_value, found.commissions) == (5_000 + 2_200, 3)
        assert found.cost_per_traded == pytest.approx(3 / 7_200)
        assert (found.trades, found.win_rate, found.average_win) == (1, 1.0, 198)
        assert (found.profit_factor, found.average_loss) == (None, None)
        assert "no loss" in found.reasons["profit_factor"]

    def test_loss_counts_as_one(self) -> None:
        self.trade(sold_at=45)
        found = performance("ALPHA", until=NOW + HOUR)
        assert (found.win_rate, found.profit_factor, found.average_loss) == (0.0, 0.0, -202)

    def test_more_money_is_no_profit(self) -> None:
        allocate_strategy(ACCOUNT, "BETA", Decimal(5_000), "USD", NOW + HOUR / 2)
        take_equity_snapshot(ACCOUNT, NOW + HOUR)
        found = performance("Discretionary", until=NOW + HOUR)
        assert (found.profit, found.net_flows, found.cumulative) == (0, -5_000, 0.0)

    def test_other_currencies_count_at_the_rate_of_their_day_and_not_of_today(self) -> None:
        sap = contract(14204, "SAP", currency="EUR")
        for days, worth in ((0, "1.10"), (10, "1.20"), (20, "2")):
            record_account_values(ACCOUNT, [("ExchangeRate", worth, "EUR")], NOW + days * DAY)
        sold = NOW + 10 * DAY
        fold_batch(ACCOUNT, [fill(1, 100, 50, of=sap)], owner_of, NOW)
        fold_batch(ACCOUNT, [fill(2, -100, 60, of=sap, commission="5", at=sold)], owner_of, sold)
        allocate_strategy(ACCOUNT, "BETA", Decimal(100), "EUR", sold)
        found = performance("ALPHA", until=NOW + 30 * DAY)
        assert found.traded_value == Decimal("1.1") * 5_000 + Decimal("1.2") * 6_000
        assert found.commissions == Decimal("1.2") * 5
        assert found.average_win == Decimal("1.2") * 995
        rates = rates_of(ACCOUNT, NOW + 30 * DAY)
        (flow,) = flows_of(ACCOUNT, "BETA", None, NOW + 30 * DAY, "USD", rates, rates_at=PastRates(rates))
        assert flow.amount == 120

    def test_before_the_first_recorded_rate_that_one_serves(self) -> None:
        record_account_values(ACCOUNT, [("ExchangeRate", "1.10", "EUR")], NOW)
        past = PastRates(rates_of(ACCOUNT, NOW))
        assert past(NOW - DAY).convert(Decimal(10), "EUR", "USD") == 11

    def test_exposure_comes_from_the_hours(self) -> None:
        self.trade()
        take_hourly_snapshot(ACCOUNT, hour_of(NOW), NOW)
        (alpha,) = performance("ALPHA", until=NOW + HOUR).exposure
        assert alpha.gross == alpha.net == pytest.approx(60 * 52 / 20_317)
        (account,) = performance("", until=NOW + HOUR).exposure
        assert account.gross == pytest.approx(60 * 52 / 100_317)

    def test_nothing_known_gives_reasons_and_no_zeros(self) -> None:
        found = performance("NOBODY", until=NOW + HOUR)
        figures = (found.profit, found.cumulative, found.sharpe, found.turnover, found.win_rate, found.gross_exposure)
        assert set(figures) == {None}
        assert {"profit", "cumulative", "turnover", "win_rate", "gross_exposure", "benchmark"} <= set(found.reasons)

    def test_benchmark_is_read_from_market_data(self, arctic: ArcticClient) -> None:
        self.trade()
        take_equity_snapshot(ACCOUNT, NOW + HOUR)
        stamps = pd.DatetimeIndex(["2026-02-27", "2026-03-02"], tz="UTC")
        bars = pd.DataFrame({name: [100.0, 101.0] for name in ("open", "high", "low", "close", "volume")}, index=stamps)
        write_bars(ArcticWriter(client=arctic), "SPY", "1_day", bars)
        Account.objects.update(benchmark="SPY")
        found = performance("ALPHA", until=NOW + HOUR, client=arctic)
        assert (found.benchmark, found.benchmark_return) == ("SPY", pytest.approx(0.01))
        assert found.beta is None
        assert "20 are needed" in found.reasons["beta"]

    def test_unknown_benchmark_says_so(self, arctic: ArcticClient) -> None:
        found = performance("ALPHA", until=NOW + HOUR, benchmark="NONE", client=arctic)
        assert "no daily bars of NONE" in found.reasons["benchmark"]
