"""What working orders may still cost, and that rebalancing leaves that money where it is."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

import itertools
from datetime import timedelta
from decimal import Decimal

import pytest

from portfolio.rebalance import plan_rebalance, weights_now
from portfolio.services import (
    allocate_strategy,
    ensure_account,
    ensure_instruments,
    fold_batch,
    open_account,
    record_account_values,
    record_marks,
)
from strategies.models import Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fill, owner_of
from trading.models import Order
from trading.orders.reserves import order_needs
from trading.orders.state import OrderState

pytestmark = pytest.mark.django_db
_numbers = itertools.count(1)
OPTION = contract(77, "AAPL", sec_type="OPT", multiplier=Decimal(100))


def order(side: str, quantity: int | str, *, owner: str = "HIGH", limit: str | None = None, **values: object) -> Order:
    fields: dict[str, object] = {
        "order_ref": f"{owner}/{next(_numbers)}",
        "owner": owner,
        "state": OrderState.ACCEPTED,
        "account_id": ACCOUNT,
        "con_id": 265598,
        "symbol": "AAPL",
        "sec_type": "STK",
        "currency": "USD",
        "side": side,
        "quantity": Decimal(quantity),
        "order_type": "LMT" if limit else "MKT",
        "limit_price": None if limit is None else Decimal(limit),
        "created_at": NOW,
        "updated_at": NOW,
        **values,
    }
    return Order.objects.create(**fields)


def needs() -> list[tuple[str, Decimal | None]]:
    return [(need.owner, need.amount) for need in order_needs(ACCOUNT)]


@pytest.fixture(autouse=True)
def _books() -> None:
    ensure_account(ACCOUNT, "USD")
    open_account(ACCOUNT, {"USD": Decimal(100_000)}, [], [], NOW)
    record_account_values(ACCOUNT, [("NetLiquidation", "100000", "USD"), ("ExchangeRate", "1.25", "EUR")], NOW)
    weights = {"target_weight": Decimal("0.2"), "min_weight": Decimal("0.15"), "max_weight": Decimal("0.25")}
    Strategy.objects.create(symbol="HIGH", filename="a.py", **weights)
    allocate_strategy(ACCOUNT, "HIGH", Decimal(30_000), "USD", NOW)


def test_exit_of_a_bracket_needs_nothing_beside_its_entry() -> None:
    order("BUY", 10, limit="50", order_ref="HIGH/entry")
    order("SELL", 10, limit="60", parent_ref="HIGH/entry")
    order("SELL", 10, stop_price=Decimal(40), parent_ref="HIGH/entry")
    order("BUY", 1, limit="45", parent_ref="HIGH/entry")
    assert needs() == [("HIGH", Decimal(500)), ("HIGH", Decimal(45))]


def test_buy_needs_what_is_left_of_it_at_its_limit() -> None:
    order("BUY", 100, limit="50", filled=Decimal(40), state=OrderState.PARTIAL)
    assert needs() == [("HIGH", 3_000)]


def test_buy_without_a_limit_needs_the_dearer_of_stop_and_last_price() -> None:
    ensure_instruments([contract()])
    record_marks({265598: Decimal(50)}, NOW)
    order("BUY", 10)
    order("BUY", 10, order_type="STP", stop_price=Decimal(60))
    assert needs() == [("HIGH", 500), ("HIGH", 600)]


def test_sale_needs_money_only_beyond_what_is_held_and_no_holding_is_sold_twice() -> None:
    fold_batch(ACCOUNT, [fill(1, 100, 50, owner="HIGH")], owner_of, NOW)
    order("SELL", 80, limit="55")
    order("SELL", 80, limit="60")
    assert needs() == [("HIGH", 60 * 60)]


def test_option_counts_its_multiplier_and_an_unknown_contract_that_may_have_one_is_unknown() -> None:
    order("BUY", 2, limit="3", con_id=77, sec_type="OPT")
    assert needs() == [("HIGH", None)]
    ensure_instruments([OPTION])
    assert needs() == [("HIGH", 600)]


@pytest.mark.parametrize("state", ["filled", "cancelled", "rejected", "denied"])
def test_order_that_is_over_needs_nothing(state: str) -> None:
    order("BUY", 100, limit="50", state=state)
    assert needs() == []


def test_money_that_a_working_order_needs_is_not_rebalanced_away() -> None:
    order("BUY", 440, limit="50")
    (line,) = plan_rebalance(ACCOUNT, now=NOW)
    assert (line.amount, line.must_sell) == (-8_000, 0)
    assert "working orders may need 22000 USD" in line.limited_by
    Order.objects.update(state=OrderState.CANCELLED)
    (line,) = plan_rebalance(ACCOUNT, now=NOW)
    assert (line.amount, line.limited_by) == (-10_000, "")


def test_discretionary_does_not_give_what_a_manual_order_needs() -> None:
    Strategy.objects.filter(symbol="HIGH").update(target_weight=1, max_weight=1, min_weight=Decimal("0.9"))
    order("BUY", 1_000, owner="Discretionary", limit="50")
    (line,) = plan_rebalance(ACCOUNT, now=NOW)
    assert line.amount == 20_000


def test_need_in_another_currency_counts_at_the_rate() -> None:
    order("BUY", 320, limit="50", con_id=5, currency="EUR")
    (line,) = plan_rebalance(ACCOUNT, now=NOW)
    assert (line.amount, "20000 USD" in line.limited_by) == (-10_000, False)
    order("BUY", 80, limit="50", con_id=5, currency="EUR")
    (line,) = plan_rebalance(ACCOUNT, now=NOW)
    assert (line.amount, "25000 USD" in line.limited_by) == (-5_000, True)


def test_order_whose_cost_is_not_known_refuses_its_owner() -> None:
    order("BUY", 1)
    (line,) = plan_rebalance(ACCOUNT, now=NOW)
    assert (line.refused, line.amount) == (True, 0)
    assert "working order" in line.reason


def test_net_liquidation_that_nobody_confirmed_for_an_hour_moves_nothing_but_is_shown() -> None:
    late = NOW + timedelta(hours=1, seconds=1)
    (line,) = weights_now(ACCOUNT, now=late)
    assert (line.refused, line.weight) == (True, Decimal("0.3"))
    assert "last confirmed at 2026-03-02 15:00 UTC" in line.reason
    assert plan_rebalance(ACCOUNT, now=late)[0].amount == 0
    record_account_values(ACCOUNT, [("NetLiquidation", "100000", "USD")], late)  # the same value, said again
    assert plan_rebalance(ACCOUNT, now=late)[0].amount == -10_000
