"""Equity over months: what is kept, and what a chart of it costs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import DjangoAssertNumQueries

from portfolio import queries
from portfolio.bulk import insert_rows
from portfolio.models import EquitySnapshot
from portfolio.services import (
    ensure_account,
    open_account,
    record_account_values,
    take_equity_snapshot,
    thin_equity_snapshots,
)
from portfolio.snapshots import GRIDS, grain_of
from tests.unit.portfolio.builders import ACCOUNT, NOW

pytestmark = pytest.mark.django_db
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
COLUMNS = ("account_id", "owner", "taken_at", "currency", "equity", "grain")


def moments(start: datetime, end: datetime, every_s: int) -> Iterable[datetime]:
    while start < end:
        yield start
        start += timedelta(seconds=every_s)


def history(*spans: tuple[timedelta, timedelta, int], owner: str = "ALPHA") -> None:
    """Write snapshots ``every_s`` between two ages, as they were taken one after the other."""
    ensure_account(ACCOUNT, "USD")
    rows: list[tuple[object, ...]] = []
    previous: datetime | None = None
    for oldest, newest, every_s in spans:
        for at in moments(NOW - oldest, NOW - newest, every_s):
            rows.append((ACCOUNT, owner, at, "USD", Decimal(len(rows)), grain_of(at, previous)))
            previous = at
    insert_rows(EquitySnapshot, COLUMNS, rows)


def kept(oldest: timedelta, newest: timedelta) -> list[datetime]:
    rows = EquitySnapshot.objects.filter(taken_at__gte=NOW - oldest, taken_at__lt=NOW - newest)
    return list(rows.order_by("taken_at").values_list("taken_at", flat=True))


def thin_all() -> None:
    while thin_equity_snapshots(NOW):
        pass


@given(st.lists(st.integers(0, 400_000), min_size=1, max_size=40, unique=True).map(sorted))
def test_grain_is_the_coarsest_cell_that_was_empty(seconds: list[int]) -> None:
    stamps = [NOW + timedelta(seconds=second) for second in seconds]
    for number, at in enumerate(stamps):
        grain = grain_of(at, stamps[number - 1] if number else None)
        for grid in GRIDS:
            is_first = all(one.timestamp() // grid != at.timestamp() // grid for one in stamps[:number])
            assert is_first == (grain >= grid)


def test_age_decides_how_many_stay() -> None:
    history((100 * DAY, 99 * DAY, 60), (40 * DAY, 39 * DAY, 30), (2 * DAY, timedelta(0), 60))
    thin_all()
    assert kept(100 * DAY, 99 * DAY) == list(moments(NOW - 100 * DAY, NOW - 99 * DAY, 3600))
    assert kept(40 * DAY, 39 * DAY) == list(moments(NOW - 40 * DAY, NOW - 39 * DAY, 300))
    assert len(kept(DAY + HOUR, timedelta(0))) == 25 * 60
    assert len(kept(2 * DAY, DAY + HOUR)) == 23 * 12


def test_one_call_deletes_no_more_than_it_was_told() -> None:
    history((3 * DAY, 2 * DAY, 60))
    assert thin_equity_snapshots(NOW, limit=100) == 100
    assert EquitySnapshot.objects.count() == 24 * 60 - 100


def test_thinning_what_is_thin_changes_nothing(django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    history((3 * DAY, 2 * DAY, 60))
    thin_all()
    before = EquitySnapshot.objects.count()
    with django_assert_max_num_queries(2):
        assert thin_equity_snapshots(NOW) == 0
    assert EquitySnapshot.objects.count() == before


def test_every_owner_keeps_its_own_points() -> None:
    history((3 * DAY, 2 * DAY, 60))
    history((3 * DAY - timedelta(seconds=30), 2 * DAY, 60), owner="BETA")
    thin_all()
    assert len(queries.equity_series("ALPHA")) == len(queries.equity_series("BETA")) == 24 * 12


def test_taking_snapshots_thins_the_old_ones() -> None:
    history((26 * HOUR, 25 * HOUR, 10))
    open_account(ACCOUNT, {"USD": Decimal(100)}, [], [], NOW)
    record_account_values(ACCOUNT, [("NetLiquidation", "100", "USD")], NOW)
    assert take_equity_snapshot(ACCOUNT, NOW)
    assert len(kept(26 * HOUR, 25 * HOUR)) == 12
    second = NOW + timedelta(seconds=10)
    take_equity_snapshot(ACCOUNT, second)
    grains = EquitySnapshot.objects.filter(owner="").order_by("taken_at").values_list("grain", flat=True)
    assert list(grains) == [86_400, 0]


def test_a_chart_of_a_quarter_reads_few_rows(django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    history((90 * DAY, DAY, 300), (DAY, timedelta(0), 10))
    with django_assert_max_num_queries(8):
        series = queries.equity_series("ALPHA", NOW - 90 * DAY)
    assert 500 <= len(series) <= 2000
    assert series[-1].taken_at == NOW - timedelta(seconds=10)
    assert series[0].taken_at - (NOW - 90 * DAY) < HOUR
    gaps = [late.taken_at - early.taken_at for early, late in pairwise(series)]
    assert max(gaps) <= 3 * HOUR
