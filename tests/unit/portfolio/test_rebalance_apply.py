"""Rebalancing as it is booked: once for a key, from what is free, with the sum of all owners kept."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from decimal import Decimal

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portfolio.models import Adjustment, CashBalance
from portfolio.rebalance import apply, weights_now
from portfolio.services import allocate_strategy, ensure_account, open_account, record_account_values
from strategies.models import AuditEntry, Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW

pytestmark = pytest.mark.django_db

TOTAL = 100_000


def strategy(symbol: str, target: Decimal, cash: Decimal) -> None:
    Strategy.objects.create(symbol=symbol, filename="a.py", target_weight=target, min_weight=target, max_weight=target)
    allocate_strategy(ACCOUNT, symbol, cash, "USD", NOW)


@pytest.fixture(autouse=True)
def _books() -> None:
    ensure_account(ACCOUNT, "USD")
    open_account(ACCOUNT, {"USD": Decimal(TOTAL)}, [], [], NOW)
    record_account_values(ACCOUNT, [("NetLiquidation", str(TOTAL), "USD")], NOW)


def cash() -> dict[str, Decimal]:
    return {row.owner: row.amount for row in CashBalance.objects.all()}


def test_money_moves_to_the_target_once_for_a_key() -> None:
    strategy("HIGH", Decimal("0.2"), Decimal(30_000))
    strategy("LOW", Decimal("0.2"), Decimal(5_000))
    lines, bookings = apply(ACCOUNT, actor="ann", source="api", key="cmd:1", now=NOW)
    assert [line.amount for line in lines] == [-10_000, 15_000]
    assert len(bookings) == 2
    assert cash() == {"HIGH": 20_000, "LOW": 20_000, "Discretionary": 60_000}
    strategy("LATE", Decimal("0.1"), Decimal(1))
    assert apply(ACCOUNT, actor="ann", source="api", key="cmd:1", now=NOW) == ([], [])
    assert cash()["LATE"] == 1
    assert [line.weight for line in weights_now(ACCOUNT, "HIGH", now=NOW)] == [Decimal("0.2")]


def test_booking_says_what_it_was_decided_on_and_by_whom() -> None:
    strategy("LOW", Decimal("0.2"), Decimal(5_000))
    apply(ACCOUNT, actor="ann", source="api", key="cmd:1", now=NOW)
    row = Adjustment.objects.get()
    assert (row.kind, row.state, row.actor, row.source) == ("rebalance", "booked", "ann", "api")
    assert row.details["net_liquidation"] == "100000"
    assert Decimal(row.details["equity"]) == 5_000
    assert AuditEntry.objects.filter(actor="ann", source="api").count() == 1


def test_one_strategy_alone_is_moved_when_it_is_named() -> None:
    strategy("HIGH", Decimal("0.2"), Decimal(30_000))
    strategy("LOW", Decimal("0.2"), Decimal(5_000))
    apply(ACCOUNT, "LOW", actor="ann", source="api", key="cmd:1", now=NOW)
    assert (cash()["HIGH"], cash()["LOW"]) == (30_000, 20_000)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.decimals(Decimal(0), Decimal("0.5"), places=3), st.decimals(Decimal(1), Decimal(30_000), places=2)
        ),
        min_size=1,
        max_size=3,
    ),
    st.integers(0, 10**9),
)
def test_no_plan_makes_money_or_leaves_anybody_in_debt(rows: list[tuple[Decimal, Decimal]], number: int) -> None:
    with transaction.atomic():
        for index, (target, amount) in enumerate(rows):
            strategy(f"S{index}", target, amount)
        apply(ACCOUNT, actor="ann", source="api", key=f"cmd:{number}", now=NOW)
        assert sum(cash().values()) == TOTAL
        assert min(cash().values()) >= 0
        for line in weights_now(ACCOUNT, now=NOW):
            assert line.weight is not None
            if sum(target for target, _ in rows) <= 1:
                assert abs(line.weight - line.target) * TOTAL < Decimal("0.02")
        transaction.set_rollback(True)
