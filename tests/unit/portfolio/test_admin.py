"""The books in the admin, and the deletion guard of strategies."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from portfolio import models
from portfolio.admin import ReadOnlyAdmin
from portfolio.fold import Item
from portfolio.guards import books_obstacle
from portfolio.services import (
    allocate_strategy,
    compare_positions,
    ensure_account,
    fold_batch,
    record_account_values,
    record_marks,
    take_equity_snapshot,
)
from strategies.exceptions import ConflictError
from strategies.models import Strategy
from strategies.services import delete_strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, fee, fill, owner_of

pytestmark = pytest.mark.django_db

SHOWN = (
    "account", "instrument", "execution", "movement", "position", "cashbalance", "break", "equitysnapshot",
    "accountvalue", "pendingcommission", "projectioncursor", "formerticker",
)  # fmt: skip


@pytest.fixture
def _books() -> None:
    ensure_account(ACCOUNT, "USD")
    items: list[Item] = [fill(1, 100, "50.25", commission="1.50"), fill(2, -40, 55), fee(9)]
    fold_batch(ACCOUNT, items, owner_of, NOW)
    record_marks({265598: Decimal(52)}, NOW)
    record_account_values(ACCOUNT, [("NetLiquidation", "1000", "USD")], NOW)
    take_equity_snapshot(ACCOUNT, NOW)
    compare_positions(ACCOUNT, {265598: Decimal(61)}, NOW)


@pytest.fixture
def root(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root", password="x"))
    return client


@pytest.mark.usefixtures("_books")
@pytest.mark.parametrize("name", SHOWN)
def test_list_can_be_seen_and_not_changed_even_by_a_superuser(root: Client, name: str) -> None:
    page = root.get(f"/admin/portfolio/{name}/")
    assert page.status_code == 200
    assert root.get(f"/admin/portfolio/{name}/add/").status_code == 403


@pytest.mark.usefixtures("_books")
def test_detail_has_no_button_that_writes(root: Client) -> None:
    row = models.Execution.objects.earliest("id")
    page = root.get(f"/admin/portfolio/execution/{row.pk}/change/")
    assert page.status_code == 200
    assert b'name="_save"' not in page.content
    assert b"deletelink" not in page.content
    assert root.post(f"/admin/portfolio/execution/{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert models.Execution.objects.filter(pk=row.pk).exists()


@pytest.mark.usefixtures("_books")
def test_figures_are_shown_without_padding(root: Client) -> None:
    page = root.get("/admin/portfolio/execution/").content.decode()
    assert ">50.25<" in page
    assert ">1.5 USD<" in page
    assert ">unknown<" in page


@pytest.mark.usefixtures("_books")
@pytest.mark.parametrize("name", ["execution", "movement", "position"])
def test_list_costs_no_query_per_row(
    root: Client, name: str, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    fold_batch(ACCOUNT, [fill(n, 1, 50, owner=f"S{n}") for n in range(10, 40)], owner_of, NOW)
    with django_assert_max_num_queries(14):
        root.get(f"/admin/portfolio/{name}/")


def test_every_list_of_the_books_is_read_only() -> None:
    registered = [type(one) for model, one in admin.site._registry.items() if model._meta.app_label == "portfolio"]
    assert len(registered) >= len(SHOWN)
    assert all(issubclass(kind, ReadOnlyAdmin) for kind in registered)


def test_strategy_without_books_may_be_deleted() -> None:
    assert books_obstacle("ALPHA") is None


def test_strategy_with_positions_executions_or_cash_may_not_be_deleted() -> None:
    Strategy.objects.create(symbol="ALPHA", filename="a.py")
    ensure_account(ACCOUNT, "USD")
    allocate_strategy(ACCOUNT, "ALPHA", Decimal(5), "USD", NOW)
    assert "cash" in str(books_obstacle("ALPHA"))
    fold_batch(ACCOUNT, [fill(1, 10, 50)], owner_of, NOW)
    assert "1 open position;" in str(books_obstacle("ALPHA"))
    fold_batch(ACCOUNT, [fill(2, -10, 50)], owner_of, NOW)
    assert "2 executions" in str(books_obstacle("ALPHA"))
    with pytest.raises(ConflictError):
        delete_strategy("ALPHA", None)
    assert Strategy.objects.filter(symbol="ALPHA").exists()
