"""I16: what an owner earned is what its equity grew by, less what came from outside; whatever happened in between."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portfolio.adjustments import book_adjustment
from portfolio.returns import flows_of
from portfolio.services import allocate_strategy, ensure_account, fold_batch, open_account, rates_of, record_marks
from portfolio.valuation import figures_of, value_of
from strategies.models import Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fee, fill, owner_of

pytestmark = pytest.mark.django_db

OWNERS = ("ALPHA", "BETA", "Discretionary")
CONTRACTS = (contract(1, "AAPL"), contract(2, "AAPL", sec_type="OPT", multiplier=Decimal(100)))
END = NOW + timedelta(hours=1)

trades = st.tuples(
    st.just("fill"),
    st.sampled_from(OWNERS),
    st.sampled_from(CONTRACTS),
    st.integers(-30, 30).filter(bool),
    st.decimals(Decimal("0.01"), Decimal(300), places=4),
    st.decimals(Decimal(0), Decimal(3), places=2),
)
flows = st.tuples(st.sampled_from(["deposit", "withdrawal"]), st.sampled_from(OWNERS), st.decimals(1, 5_000, places=2))
moves = st.tuples(
    st.sampled_from(["transfer_cash", "rebalance"]),
    st.permutations(OWNERS).map(lambda order: order[:2]),
    st.decimals(1, 5_000, places=2),
)


def book(number: int, step: tuple[Any, ...]) -> None:
    if step[0] == "fill":
        _, owner, of, quantity, price, cost = step
        fold_batch(ACCOUNT, [fill(number, quantity, price, owner=owner, of=of), fee(number, str(cost))], owner_of, NOW)
        return
    kind, who, amount = step
    details = {"currency": "USD", "amount": str(amount)}
    details |= {"owner": who} if isinstance(who, str) else {"from": who[0], "to": who[1]}
    book_adjustment(
        ACCOUNT, kind, details, actor="law", source="engine", key=f"law:{number}", effective_at=NOW, now=NOW
    )


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(st.one_of(trades, flows, moves), min_size=1, max_size=10),
    st.tuples(*(st.decimals(Decimal("0.01"), Decimal(300), places=4) for _ in CONTRACTS)),
)
def test_profit_is_the_growth_of_equity_less_flows(
    steps: list[tuple[Any, ...]], marks: tuple[Decimal, Decimal]
) -> None:
    with transaction.atomic():
        for symbol in OWNERS[:2]:
            Strategy.objects.create(symbol=symbol, filename="a.py")
        ensure_account(ACCOUNT, "USD")
        open_account(ACCOUNT, {"USD": Decimal(100_000)}, [], [], NOW)
        allocate_strategy(ACCOUNT, "ALPHA", Decimal(20_000), "USD", NOW)
        for number, step in enumerate(steps, 1):
            book(number, step)
        record_marks({one.con_id: mark for one, mark in zip(CONTRACTS, marks, strict=True)}, NOW)
        rates = rates_of(ACCOUNT)
        for owner in OWNERS:
            value = value_of(owner, figures_of(ACCOUNT, owner, "USD", rates, NOW))
            came = sum((flow.amount for flow in flows_of(ACCOUNT, owner, None, END, "USD", rates)), Decimal(0))
            assert value.realized_pnl + value.unrealized_pnl == value.equity - came
        transaction.set_rollback(True)
