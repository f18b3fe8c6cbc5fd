"""Mistakes that books of several strategies on one account have been seen to make, each tried on these.

Here are those that no other test of the ledger is named after.
"""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from portfolio.arctic.client import get_ac
from portfolio.arctic.projections import Projector
from portfolio.consolidated import consolidated
from portfolio.hourly import take_hourly_snapshot
from portfolio.manager import PortfolioManager
from portfolio.models import Account, BrokerHolding, CashBalance, Execution, Movement, Position
from portfolio.services import (
    allocate_strategy,
    assign_execution,
    book_adjustment,
    compare_positions,
    ensure_account,
    fold_batch,
    open_account,
    rates_of,
    record_account_values,
    record_marks,
    strategy_equity,
)
from portfolio.verification.report import verify_all
from strategies.exceptions import ConflictError, LedgerError
from strategies.models import Strategy
from strategies.services import delete_strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fee, fill, owner_of

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
AAPL = 265598


@pytest.fixture(autouse=True)
def _books() -> Iterator[None]:
    """An account with two strategies; after each test the ledger's own proofs must hold."""
    for symbol in ("ALPHA", "BETA"):
        Strategy.objects.create(symbol=symbol, filename="a.py", target_weight=Decimal("0.1"))
    ensure_account(ACCOUNT, "USD")
    open_account(ACCOUNT, {"USD": Decimal(100_000)}, [], [], NOW)
    record_account_values(ACCOUNT, [("NetLiquidation", "100000", "USD")], NOW)
    allocate_strategy(ACCOUNT, "ALPHA", Decimal(10_000), "USD", NOW)
    yield
    for check in verify_all(arctic=False).checks:
        assert check.findings == [], check.title


def position(owner: str = "ALPHA", con_id: int = AAPL) -> Position:
    return Position.objects.get(owner=owner, instrument_id=con_id)


def cash(owner: str = "ALPHA", currency: str = "USD") -> Decimal:
    return CashBalance.objects.get(owner=owner, currency=currency).amount


def test_fills_are_booked_while_the_research_store_is_away_and_reach_it_later(tmp_path: Path) -> None:
    """Fills were dropped in silence while the account's library was not there."""
    fold_batch(ACCOUNT, [fill(1), fee(1), fill(2, -40, 55)], owner_of, NOW)
    assert position().quantity == 60
    store = get_ac(f"lmdb://{tmp_path / 'arctic'}?map_size=64MB")
    Projector(client=store).flush()
    rows = store.read(ACCOUNT, "fills/ALPHA").data
    assert list(rows[rows.kind == "fill"]["quantity"]) == [100.0, -40.0]


def test_each_partial_fill_keeps_its_own_size_and_price() -> None:
    """Later partial fills were logged with the first one's size and price."""
    fold_batch(ACCOUNT, [fill(1, 10, 50), fill(2, 20, 51), fill(3, 30, 52)], owner_of, NOW)
    found = list(Execution.objects.order_by("id").values_list("quantity", "price"))
    assert found == [(10, 50), (20, 51), (30, 52)]
    assert position().cost_basis == 500 + 1020 + 1560


def test_first_fill_moves_cash_and_a_sale_pays_its_fee_and_multipliers_count() -> None:
    """The first fill of a contract left cash alone, a sale added its commission, an option counted as one share."""
    option = contract(77, "AAPL", sec_type="OPT", multiplier=Decimal(100))
    fold_batch(ACCOUNT, [fill(1, 2, 3, of=option, commission="1.4")], owner_of, NOW)
    assert cash() == 10_000 - Decimal("601.4")
    fold_batch(ACCOUNT, [fill(2, -2, 4, of=option, commission="1.4")], owner_of, NOW)
    assert cash() == 10_000 + 200 - Decimal("2.8")
    assert position(con_id=77).realized_pnl == 200 - Decimal("2.8")


def test_partial_close_keeps_the_average_cost() -> None:
    """A partial close reset the average; a reversal realised the whole fill."""
    fold_batch(ACCOUNT, [fill(1, 100, 50), fill(2, -40, 55)], owner_of, NOW)
    assert (position().average_cost, position().realized_pnl) == (50, 200)
    fold_batch(ACCOUNT, [fill(3, -100, 60)], owner_of, NOW)
    assert (position().quantity, position().average_cost, position().realized_pnl) == (-40, 60, 800)


def test_what_was_realised_is_carried_through_the_hours_also_of_what_is_flat() -> None:
    """The hourly snapshot wrote a realised profit of zero and so erased it."""
    fold_batch(ACCOUNT, [fill(1, 100, 50), fill(2, -100, 55)], owner_of, NOW)
    for late in range(3):
        at = NOW + late * HOUR
        rows = {row.owner: row for row in take_hourly_snapshot(ACCOUNT, at, at + timedelta(minutes=1))}
        assert rows["ALPHA"].realized_pnl == 500
        held = [row for row in rows["ALPHA"].positions if row["con_id"] == AAPL]
        assert [Decimal(row["realized_pnl"]) for row in held] == [500]
    assert position().realized_pnl == 500


def test_position_that_nobody_touched_for_a_year_is_still_there() -> None:
    """Positions were read from the last seven days: an older one began again at nothing."""
    fold_batch(ACCOUNT, [fill(1, 100, 50, at=NOW - timedelta(days=400))], owner_of, NOW - timedelta(days=400))
    assert [row.quantity for row in PortfolioManager().get_strategy_positions("ALPHA")] == [100]
    fold_batch(ACCOUNT, [fill(2, 10, 60)], owner_of, NOW)
    assert (position().quantity, position().cost_basis) == (110, 5_600)


def test_fund_with_the_ticker_of_a_currency_stays_apart_from_cash() -> None:
    """Rows were keyed by ticker: the fund USD fell together with the row of the dollars."""
    fund = contract(4815, "USD")
    fold_batch(ACCOUNT, [fill(1, 10, 100, of=fund)], owner_of, NOW)
    record_marks({4815: Decimal(110)}, NOW)
    (alpha,) = (row for row in take_hourly_snapshot(ACCOUNT, NOW, NOW) if row.owner == "ALPHA")
    kinds = {(row["row_type"], row["con_id"]): Decimal(row["quantity"]) for row in alpha.positions}
    assert kinds == {("POSITION", 4815): 10, ("CASH", 0): 9_000}
    assert alpha.equity == 9_000 + 1_100


def test_assigning_takes_from_the_giver_what_it_gives_to_the_taker() -> None:
    """Reassigning added to the target, left the old owner's quantity and touched the first match alone."""
    manual = [fill(number, 10, 50 + number, owner="Discretionary") for number in (1, 2)]
    fold_batch(ACCOUNT, [*manual, fee(2)], owner_of, NOW)
    assign_execution(ACCOUNT, manual[1].exec_id, "BETA", actor="ann", source="page", reason="Its order.", now=NOW)
    assert (position("Discretionary").quantity, position("Discretionary").cost_basis) == (10, 510)
    assert (position("BETA").quantity, position("BETA").cost_basis, cash("BETA")) == (10, 520, -521)
    assert cash("Discretionary") == 90_000 - 510


def test_strategy_that_holds_something_cannot_be_deleted_and_keeps_its_books() -> None:
    """Deleting a strategy destroyed its ledger while positions were open."""
    fold_batch(ACCOUNT, [fill(1)], owner_of, NOW)
    with pytest.raises(ConflictError):
        delete_strategy("ALPHA", None)
    assert position().quantity == 100
    assert Movement.objects.filter(owner="ALPHA", kind="fill").exists()


def test_currency_without_a_rate_is_an_error_and_both_directions_agree() -> None:
    """Some multiplied by a rate that others divided by, and a failure became 1.0 for an hour."""
    record_account_values(ACCOUNT, [("ExchangeRate", "1.25", "EUR")], NOW)
    rates = rates_of(ACCOUNT, NOW)
    assert rates.convert(Decimal(100), "EUR", "USD") == 125
    assert rates.convert(Decimal(125), "USD", "EUR") == 100
    with pytest.raises(LedgerError) as caught:
        rates.convert(Decimal(100), "JPY", "USD")
    assert caught.value.code == "fx_unknown"


def test_strategy_without_cash_is_worth_its_weight_and_never_the_whole_account() -> None:
    """A strategy that had got nothing was sized with the equity of the whole account."""
    assert strategy_equity(ACCOUNT, "BETA", NOW) == 10_000
    Strategy.objects.create(symbol="NOTHING", filename="a.py", target_weight=Decimal(0))
    assert strategy_equity(ACCOUNT, "NOTHING", NOW) == 0


def test_broker_that_reports_nothing_opens_breaks_and_takes_nothing_from_anybody() -> None:
    """An empty answer emptied the portfolio: who owned what was lost."""
    fold_batch(ACCOUNT, [fill(1), fill(2, 50, 51, owner="BETA")], owner_of, NOW)
    (opened,) = compare_positions(ACCOUNT, {}, NOW)
    assert (opened.ib_quantity, opened.ledger_quantity) == (0, 150)
    assert (position().quantity, position("BETA").quantity) == (100, 50)
    assert compare_positions(ACCOUNT, {AAPL: Decimal(150)}, NOW)[0].state == "cleared"


def test_merged_option_is_weighted_by_quantity_and_valued_with_its_multiplier() -> None:
    """Average costs were merged without weights, options valued without their hundred, balancing rows dropped."""
    option = contract(77, "AAPL", sec_type="OPT", multiplier=Decimal(100))
    fold_batch(ACCOUNT, [fill(1, 1, 2, of=option), fill(2, 3, 4, of=option)], owner_of, NOW)
    fold_batch(ACCOUNT, [fill(3, -1, 5, of=option, owner="Discretionary")], owner_of, NOW)
    record_marks({77: Decimal(5)}, NOW)
    BrokerHolding.objects.create(account_id=ACCOUNT, instrument_id=77, quantity=Decimal(3), average_cost=Decimal(325))
    Account.objects.update(positions_at=NOW)
    rows = {row.owner: row for row in consolidated(ACCOUNT, NOW)}
    assert (rows["ALPHA"].quantity, rows["ALPHA"].average_cost, rows["ALPHA"].market_value) == (
        4,
        Decimal("3.5"),
        2_000,
    )
    assert (rows["Discretionary"].quantity, sum(row.quantity for row in rows.values())) == (-1, 3)


def test_stop_that_fills_after_the_target_is_a_short_position_for_all_to_see() -> None:
    """A protective stop outlived the target's exit and opened a reverse position that nobody booked."""
    fold_batch(ACCOUNT, [fill(1, 100, 50), fill(2, -100, 60), fill(3, -100, 45)], owner_of, NOW)
    assert (position().quantity, position().average_cost, position().realized_pnl) == (-100, 45, 1_000)
    assert [row.quantity for row in PortfolioManager().get_strategy_positions("ALPHA")] == [-100]


def test_strategy_sees_its_own_positions_alone() -> None:
    """What the account held was read as the strategy's own."""
    fold_batch(ACCOUNT, [fill(1, -30, 50), fill(2, 500, 50, owner="BETA")], owner_of, NOW)
    mine = PortfolioManager().get_strategy_positions("ALPHA")
    assert [(row.con_id, row.quantity) for row in mine] == [(AAPL, -30)]
    assert PortfolioManager().get_strategy_positions("GAMMA") == []


def test_deposit_goes_to_whom_it_is_booked_and_to_nobody_else() -> None:
    """Cash that moved at the broker was spread over strategies by whoever looked next."""
    before = cash("Discretionary")
    details = {"owner": "BETA", "currency": "USD", "amount": "500"}
    book_adjustment(ACCOUNT, "deposit", details, actor="ann", source="page", now=NOW)
    assert (cash("BETA"), cash(), cash("Discretionary")) == (500, 10_000, before)
