"""Money columns: asked for by value they answer alike on every database, and comparing text is refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.db import NotSupportedError, connection
from django.db.models import Case, DecimalField, F, Q, Value, When

from portfolio.models import CashBalance, Position
from portfolio.services import ensure_account, fold_batch
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fill, owner_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _books() -> None:
    ensure_account(ACCOUNT, "USD")
    other = contract(76792991, "TSLA")
    items = [fill(1, 100, 50), fill(2, -100, 51), fill(3, "1.5", 20, of=other)]
    fold_batch(ACCOUNT, items, owner_of, NOW)


@pytest.mark.parametrize("zero", [0, Decimal(0), "0", Decimal("0.00"), Decimal("-0")])
def test_rows_that_the_fold_wrote_are_found_by_value(zero: Any) -> None:
    assert Position.objects.filter(quantity=zero).values_list("instrument_id", flat=True).get() == 265598
    assert Position.objects.exclude(quantity=zero).get().quantity == Decimal("1.5")


def test_values_are_found_however_they_are_spelled() -> None:
    assert Position.objects.filter(quantity=Decimal("1.50")).count() == 1
    assert Position.objects.filter(quantity__in=[Decimal("1.500"), 7]).count() == 1
    assert Position.objects.filter(Q(quantity=Decimal(2)) | Q(quantity=1.5)).count() == 1


def test_what_the_orm_writes_is_spelled_as_the_fold_spells_it() -> None:
    Position.objects.filter(quantity=Decimal("1.5")).update(quantity=Decimal("2.50"))
    row = CashBalance.objects.get(owner="ALPHA", currency="USD")
    row.amount = Decimal("1E+3")
    row.save()
    CashBalance.objects.create(account_id=ACCOUNT, owner="BETA", currency="USD", amount=1000, updated_at=NOW)
    assert Position.objects.filter(quantity=Decimal("2.5")).count() == 1
    assert CashBalance.objects.filter(amount=1000).count() == 2
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT CAST(amount AS text) FROM portfolio_cashbalance")
        assert cursor.fetchall() == [("1000.0000000000",)]


def test_columns_are_compared_and_expressions_written_as_they_are() -> None:
    Position.objects.update(cost_basis=F("quantity"))
    assert Position.objects.filter(cost_basis=F("quantity")).count() == 2
    worth = Case(When(quantity=0, then=Value(Decimal(0))), default=F("cost_basis"), output_field=DecimalField())
    assert Position.objects.annotate(worth=worth).count() == 2


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="other databases compare numbers")
@pytest.mark.parametrize("lookup", ["gt", "gte", "lt", "lte", "range"])
def test_comparing_sizes_is_refused_where_it_would_compare_text(lookup: str) -> None:
    value = (Decimal(0), Decimal(9)) if lookup == "range" else Decimal(9)
    with pytest.raises(NotSupportedError, match="in Python"):
        list(Position.objects.filter(**{f"quantity__{lookup}": value}))
