"""The consolidated table: IB divided among owners, the rest Discretionary, a difference given to nobody."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from portfolio.consolidated import consolidated
from portfolio.manager import PortfolioManager
from portfolio.models import Account, BrokerHolding, EquitySnapshot, Position
from portfolio.services import (
    allocate_strategy,
    ensure_account,
    fold_batch,
    record_account_values,
    record_marks,
    take_equity_snapshot,
)
from strategies.exceptions import LedgerError, TransientError
from strategies.models import Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fill, owner_of

pytestmark = pytest.mark.django_db(transaction=True)

OPTION = contract(9, "AAPL", sec_type="OPT", multiplier=Decimal(100))


@pytest.fixture(autouse=True)
def _books() -> None:
    ensure_account(ACCOUNT, "USD")
    record_account_values(ACCOUNT, [("NetLiquidation", "100000", "USD"), ("ExchangeRate", "1.25", "EUR")], NOW)
    items = [
        fill(1, 60, 50),
        fill(2, 20, 40, owner="BETA"),
        fill(3, -2, 5, owner="BETA", of=OPTION),
        fill(4, 10, 80, of=contract(7, "SIE", currency="EUR")),
    ]
    fold_batch(ACCOUNT, items, owner_of, NOW)


def confirm(**held: tuple[str, str]) -> None:
    """IB's complete answer: contract id → quantity and average."""
    BrokerHolding.objects.all().delete()
    for key, (quantity, average) in held.items():
        BrokerHolding.objects.create(
            account_id=ACCOUNT, instrument_id=int(key[1:]), quantity=Decimal(quantity), average_cost=Decimal(average)
        )
    Account.objects.update(positions_at=NOW)


def quantities(con_id: int = 265598) -> dict[str, Decimal]:
    return {row.owner: row.quantity for row in consolidated(ACCOUNT, NOW) if row.con_id == con_id}


def test_rest_of_what_ib_holds_is_discretionary_and_all_rows_add_up_to_ib() -> None:
    confirm(c265598=("100", "48"), c7=("10", "80"), c9=("-2", "500"))
    rows = [row for row in consolidated(ACCOUNT, NOW) if row.con_id == 265598]
    assert [(row.owner, row.quantity) for row in rows] == [("ALPHA", 60), ("BETA", 20), ("Discretionary", 20)]
    assert {(row.ib_quantity, row.difference) for row in rows} == {(100, 20)}
    assert rows[2].average_cost == (4_800 - 3_000 - 800) / Decimal(20)


def test_what_ib_does_not_hold_is_taken_from_no_strategy() -> None:
    confirm(c7=("10", "80"), c9=("-2", "500"))
    assert quantities() == {"ALPHA": 60, "BETA": 20, "Discretionary": -80}
    assert Position.objects.get(owner="ALPHA", instrument_id=265598).quantity == 60


def test_before_ib_confirmed_anything_the_books_are_shown() -> None:
    assert quantities() == {"ALPHA": 60, "BETA": 20}
    assert {row.ib_quantity for row in consolidated(ACCOUNT, NOW)} == {None}


def test_contracts_of_one_ticker_stay_apart_and_multipliers_count() -> None:
    record_marks({9: Decimal(4), 265598: Decimal(55)}, NOW)
    option = next(row for row in consolidated(ACCOUNT, NOW) if row.con_id == 9)
    assert (option.market_value, option.weight) == (-800, Decimal("-0.008"))
    assert option.pnl_pct == Decimal("0.2"), "a short gains when the price falls"


def test_foreign_value_is_shown_in_base() -> None:
    record_marks({7: Decimal(100)}, NOW)
    row = next(row for row in consolidated(ACCOUNT, NOW) if row.con_id == 7)
    assert (row.market_value, row.market_value_base, row.worth_in_base) == (1_000, 1_250, Decimal("1.25"))


def test_twice_the_same_books_give_the_same_rows() -> None:
    confirm(c265598=("100", "48"))
    record_marks({265598: Decimal(55)}, NOW)
    assert consolidated(ACCOUNT, NOW) == consolidated(ACCOUNT, NOW)


class Session:
    """An engine's session that confirms more shares when asked, or does not answer."""

    def __init__(self, answers: bool = True) -> None:
        self.answers, self.asked = answers, 0

    def reconcile(self) -> dict[str, Any]:
        self.asked += 1
        if not self.answers:
            raise TransientError("No answer.", code="timeout")
        confirm(c265598=("90", "48"))
        return {}


async def test_refresh_asks_ib_and_the_cache_serves_a_minute() -> None:
    session, now = Session(), [0.0]
    manager = PortfolioManager(SimpleNamespace(session=session), clock=lambda: now[0])
    before = await manager.reconcile_positions()
    assert {row.ib_quantity for row in before} == {None}
    assert session.asked == 0
    after = await manager.reconcile_positions(force_refresh=True)
    assert sum(row.quantity for row in after if row.con_id == 265598) == 90
    assert await manager.reconcile_positions() == after
    assert session.asked == 1


async def test_answer_that_does_not_come_changes_nothing() -> None:
    manager = PortfolioManager(SimpleNamespace(session=Session(answers=False)))
    before = await manager.reconcile_positions()
    with pytest.raises(TransientError):
        await manager.reconcile_positions(force_refresh=True)
    assert await manager.reconcile_positions() == before


def test_fill_ends_the_cache() -> None:
    manager = PortfolioManager()
    first = manager.get_consolidated_positions()
    fold_batch(ACCOUNT, [fill(5, 1, 50)], owner_of, NOW)
    assert manager.get_consolidated_positions() != first


def test_rows_for_pages_are_json() -> None:
    rows = PortfolioManager().get_ib_positions_for_frontend()
    assert json.loads(json.dumps(rows))[0]["owner"] == "ALPHA"


def test_equity_history_is_a_frame() -> None:
    Strategy.objects.create(symbol="GAMMA", filename="g.py")
    allocate_strategy(ACCOUNT, "GAMMA", Decimal(500), "USD", NOW)
    record_marks({265598: Decimal(55), 7: Decimal(80), 9: Decimal(5)}, NOW)
    for hours in (0, 1, 2):
        take_equity_snapshot(ACCOUNT, NOW + timedelta(hours=hours))
    frame = PortfolioManager().get_strategy_equity_history("GAMMA", NOW, NOW + timedelta(hours=1))
    assert list(frame["equity"]) == [500.0, 500.0]
    assert str(frame.index.dtype).endswith(", UTC]")
    assert PortfolioManager().get_strategy_equity_history("NOBODY").empty


def test_equity_history_of_a_short_span_long_ago_has_every_point_of_it() -> None:
    Strategy.objects.create(symbol="GAMMA", filename="g.py")
    allocate_strategy(ACCOUNT, "GAMMA", Decimal(500), "USD", NOW)
    rows = [
        EquitySnapshot(
            account_id=ACCOUNT,
            owner="GAMMA",
            taken_at=NOW + timedelta(hours=hour),
            currency="USD",
            equity=Decimal(hour),
            grain=86_400 if hour % 24 == 0 else 3_600,
        )
        for hour in range(6_000)
    ]
    EquitySnapshot.objects.bulk_create(rows)
    frame = PortfolioManager().get_strategy_equity_history("GAMMA", NOW, NOW + timedelta(hours=30))
    assert list(frame["equity"]) == [float(hour) for hour in range(31)]


def test_hours_are_stopped_and_started_through_the_engine() -> None:
    engine = SimpleNamespace(schedule=SimpleNamespace(keeps_hours=True))
    manager = PortfolioManager(engine)
    seen = []
    for change in (manager.stop_hourly_snapshots, manager.start_hourly_snapshots):
        change()
        seen.append(engine.schedule.keeps_hours)
    assert seen == [False, True]
    with pytest.raises(LedgerError):
        PortfolioManager().start_hourly_snapshots()


def test_another_connection_ends_the_cache() -> None:
    manager = PortfolioManager()
    manager.get_consolidated_positions()
    confirm(c265598=("100", "48"))
    manager.update_ib_connection()
    assert {row.ib_quantity for row in manager.get_consolidated_positions() if row.con_id == 265598} == {100}
