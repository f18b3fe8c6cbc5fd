"""Rebalancing: weights beside targets, a plan within what is free, refusals where a figure is missing."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from portfolio.rebalance import plan_rebalance, target_warning, weights_now
from portfolio.services import (
    allocate_strategy,
    compare_positions,
    ensure_account,
    fold_batch,
    open_account,
    record_account_values,
    record_marks,
)
from strategies.exceptions import NotFoundError
from strategies.models import Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fill, owner_of

pytestmark = pytest.mark.django_db

TOTAL = 100_000


def strategy(symbol: str, target: str, low: str, high: str, cash: int, currency: str = "USD") -> None:
    """A strategy with an allocation of its own, whatever its target says."""
    Strategy.objects.create(
        symbol=symbol,
        filename="a.py",
        target_weight=Decimal(target),
        min_weight=Decimal(low),
        max_weight=Decimal(high),
        currency=currency,
    )
    allocate_strategy(ACCOUNT, symbol, Decimal(cash), currency, NOW)


@pytest.fixture(autouse=True)
def _books() -> None:
    ensure_account(ACCOUNT, "USD")
    open_account(ACCOUNT, {"USD": Decimal(TOTAL)}, [], [], NOW)
    record_account_values(ACCOUNT, [("NetLiquidation", str(TOTAL), "USD"), ("ExchangeRate", "1.25", "EUR")], NOW)


def test_weight_is_equity_over_net_liquidation_in_base() -> None:
    strategy("ALPHA", "0.2", "0.1", "0.3", 15_000)
    strategy("EURO", "0.2", "0.1", "0.3", 10_000, "EUR")
    alpha, euro = weights_now(ACCOUNT, now=NOW)
    assert (alpha.equity, alpha.weight, alpha.target) == (15_000, Decimal("0.15"), Decimal("0.2"))
    assert (euro.equity, euro.currency, euro.weight) == (10_000, "EUR", Decimal("0.125"))


def test_who_is_outside_the_band_goes_to_the_target_and_who_is_inside_stays() -> None:
    strategy("LOW", "0.2", "0.15", "0.25", 10_000)
    strategy("HIGH", "0.2", "0.15", "0.25", 30_000)
    strategy("INSIDE", "0.2", "0.15", "0.25", 16_000)
    lines = {line.strategy: line.amount for line in plan_rebalance(ACCOUNT, now=NOW)}
    assert lines == {"HIGH": -10_000, "INSIDE": 0, "LOW": 10_000}
    forced = {line.strategy: line.amount for line in plan_rebalance(ACCOUNT, force=True, now=NOW)}
    assert forced == {"HIGH": -10_000, "INSIDE": 4_000, "LOW": 10_000}


def test_amount_is_in_the_strategys_own_currency() -> None:
    strategy("EURO", "0.2", "0.15", "0.25", 8_000, "EUR")  # 10,000 of base
    (line,) = plan_rebalance(ACCOUNT, "EURO", now=NOW)
    assert (line.amount, line.currency) == (8_000, "EUR")


def test_cash_that_is_bound_in_positions_is_not_given() -> None:
    strategy("HIGH", "0.2", "0.15", "0.25", 30_000)
    fold_batch(ACCOUNT, [fill(1, 500, 50, owner="HIGH")], owner_of, NOW)
    record_marks({265598: Decimal(50)}, NOW)
    (line,) = plan_rebalance(ACCOUNT, now=NOW)
    assert (line.amount, line.must_sell) == (-5_000, 5_000)
    assert "sell 5000 USD" in line.limited_by


def test_proceeds_of_a_short_sale_are_not_free() -> None:
    strategy("HIGH", "0.2", "0.15", "0.25", 30_000)
    fold_batch(ACCOUNT, [fill(1, -500, 50, owner="HIGH")], owner_of, NOW)
    record_marks({265598: Decimal(50)}, NOW)
    (line,) = plan_rebalance(ACCOUNT, now=NOW)
    assert (line.amount, line.must_sell) == (-5_000, 5_000)


def test_discretionary_gives_no_more_than_it_has_and_what_others_gave() -> None:
    strategy("FULL", "0.1", "0.05", "0.2", 90_000)
    strategy("LOW", "0.9", "0.8", "1", 1_000)
    fold_batch(ACCOUNT, [fill(1, 1_400, 50, owner="FULL")], owner_of, NOW)
    record_marks({265598: Decimal(50)}, NOW)
    full, low = plan_rebalance(ACCOUNT, now=NOW)
    assert full.amount == -20_000
    assert low.amount == 20_000 + 9_000
    assert "Discretionary has only 29000 USD" in low.limited_by


class TestRefusals:
    def test_of_a_strategy_without_a_price(self) -> None:
        strategy("HIGH", "0.2", "0.15", "0.25", 30_000)
        strategy("LOW", "0.2", "0.15", "0.25", 10_000)
        fold_batch(ACCOUNT, [fill(1, 1, 50, owner="HIGH")], owner_of, NOW)
        high, low = plan_rebalance(ACCOUNT, now=NOW)
        assert (high.refused, high.amount, high.equity, high.weight) == (True, 0, None, None)
        assert "no price" in high.reason
        assert (low.refused, low.amount) == (False, 10_000)

    def test_at_old_prices(self) -> None:
        strategy("HIGH", "0.2", "0.15", "0.25", 30_000)
        fold_batch(ACCOUNT, [fill(1, 1, 50, owner="HIGH")], owner_of, NOW)
        record_marks({265598: Decimal(50)}, NOW)
        (line,) = plan_rebalance(ACCOUNT, now=NOW + timedelta(hours=1))
        assert (line.refused, line.amount) == (True, 0)
        assert "old" in line.reason

    def test_while_a_break_is_open_in_what_it_holds(self) -> None:
        strategy("HIGH", "0.2", "0.15", "0.25", 30_000)
        fold_batch(ACCOUNT, [fill(1, 1, 50, owner="HIGH")], owner_of, NOW)
        record_marks({265598: Decimal(50)}, NOW)
        compare_positions(ACCOUNT, {265598: Decimal(2)}, NOW)
        (line,) = plan_rebalance(ACCOUNT, now=NOW)
        assert (line.refused, line.amount) == (True, 0)
        assert "AAPL" in line.reason

    def test_before_net_liquidation_is_known(self) -> None:
        strategy("HIGH", "0.2", "0.15", "0.25", 30_000)
        record_account_values(ACCOUNT, [("NetLiquidation", "", "USD")], NOW)
        (line,) = plan_rebalance(ACCOUNT, now=NOW)
        assert (line.refused, line.amount) == (True, 0)
        assert "net liquidation" in line.reason

    def test_before_the_initial_cash(self) -> None:
        Strategy.objects.create(symbol="NEW", filename="a.py", target_weight=Decimal("0.2"), min_weight=Decimal("0.1"))
        (line,) = plan_rebalance(ACCOUNT, now=NOW)
        assert (line.refused, line.amount) == (True, 0)

    def test_without_a_rate(self) -> None:
        strategy("YEN", "0.2", "0.1", "0.3", 1_000, "JPY")
        (line,) = plan_rebalance(ACCOUNT, now=NOW)
        assert (line.refused, line.amount) == (True, 0)
        assert "JPY" in line.reason

    def test_of_takers_while_discretionary_cannot_be_valued(self) -> None:
        strategy("HIGH", "0.2", "0.15", "0.25", 30_000)
        strategy("LOW", "0.2", "0.15", "0.25", 10_000)
        fold_batch(ACCOUNT, [fill(1, 1, 50, owner="Discretionary", of=contract(9, "XYZ"))], owner_of, NOW)
        high, low = plan_rebalance(ACCOUNT, now=NOW)
        assert (high.amount, low.amount, low.refused) == (-10_000, 0, True)

    def test_of_an_unknown_strategy(self) -> None:
        with pytest.raises(NotFoundError):
            plan_rebalance(ACCOUNT, "NOBODY", now=NOW)


def test_targets_of_more_than_everything_are_warned_of() -> None:
    strategy("ONE", "0.6", "0", "1", 1)
    assert target_warning() == ""
    strategy("TWO", "0.6", "0", "1", 1)
    assert "120" in target_warning()
