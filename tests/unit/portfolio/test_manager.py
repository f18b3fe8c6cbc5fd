"""PortfolioManager: the seeds' interface, its cache, its threads."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal

import pytest
from django.db import connection

from portfolio.facts import FoldResult
from portfolio.manager import CACHE_S, PortfolioManager
from portfolio.models import Account, Movement, Position
from portfolio.services import ensure_account, fold_batch, open_account, record_account_values
from strategies.events import StatusSnapshot, TradeSnapshot
from strategies.exceptions import LedgerError
from strategies.models import Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fill, owner_of

pytestmark = pytest.mark.django_db(transaction=True)

TRADE = TradeSnapshot(
    "ALPHA/1", 3, 1, 7001, ACCOUNT, contract(), "BUY", Decimal(1), "MKT", None, None, "DAY", "Filled", Decimal(1),
    Decimal(0), Decimal(50),
)  # fmt: skip


@pytest.fixture
def manager() -> PortfolioManager:
    ensure_account(ACCOUNT, "USD")
    Strategy.objects.create(symbol="ALPHA", filename="a.py")
    return PortfolioManager()


async def test_fill_is_booked_once_for_its_strategy(manager: PortfolioManager) -> None:
    first = await manager.process_fill("ALPHA", TRADE, fill(1, 10, 50))
    again = await manager.process_fill("ALPHA", TRADE, fill(1, 10, 50))
    assert (len(first.new_executions), again.duplicates) == (1, 1)
    assert isinstance(again, FoldResult)


@pytest.mark.parametrize(
    ("strategy", "account", "code"), [("ALPHA", "DU777", "other_account"), ("GHOST", ACCOUNT, "unknown_owner")]
)
async def test_fill_of_another_account_or_of_nobody_is_refused(
    manager: PortfolioManager, strategy: str, account: str, code: str
) -> None:
    with pytest.raises(LedgerError) as caught:
        await manager.process_fill(strategy, TRADE, replace(fill(1, 10, 50), account=account))
    assert caught.value.code == code
    assert not await Movement.objects.aexists()
    assert await Account.objects.acount() == 1


def test_positions_are_those_of_the_strategy_alone(manager: PortfolioManager) -> None:
    fold_batch(ACCOUNT, [fill(1, 10, 50), fill(2, 5, 50, owner="BETA")], owner_of, NOW)
    (row,) = manager.get_strategy_positions("ALPHA")
    assert (row.con_id, row.quantity, row.average_cost, row.mark) == (265598, 10, 50, None)
    assert len(manager.get_positions()) == 2


def test_cache_lasts_a_minute_and_ends_with_a_fill() -> None:
    now = [0.0]
    manager = PortfolioManager(clock=lambda: now[0])
    ensure_account(ACCOUNT, "USD")
    fold_batch(ACCOUNT, [fill(1, 10, 50)], owner_of, NOW)
    assert manager.get_positions()[0].quantity == 10
    Position.objects.update(quantity=Decimal(99))
    assert manager.get_positions()[0].quantity == 10
    assert manager.get_positions(force_refresh=True)[0].quantity == 99
    Position.objects.update(quantity=Decimal(10))
    now[0] += CACHE_S
    assert manager.get_positions()[0].quantity == 10
    fold_batch(ACCOUNT, [fill(2, 1, 50)], owner_of, NOW)
    assert manager.get_positions()[0].quantity == 11
    Position.objects.update(quantity=Decimal(7))
    manager.clear_cache()
    assert manager.get_positions()[0].quantity == 7


def test_base_currency_is_unknown_until_ib_said_it() -> None:
    manager = PortfolioManager()
    seen = [manager.base_currency]
    ensure_account(ACCOUNT)
    seen.append(manager.base_currency)
    ensure_account(ACCOUNT, "USD")
    seen.append(manager.base_currency)
    assert seen == [None, None, "USD"]
    assert manager.account_id == ACCOUNT


def test_summary_names_net_liquidation_also_when_unknown(manager: PortfolioManager) -> None:
    assert manager.get_portfolio_summary()["net_liquidation"] is None
    record_account_values(ACCOUNT, [("NetLiquidation", "1000", "USD")], NOW)
    assert manager.get_portfolio_summary()["net_liquidation"] == 1000
    assert manager.get_total_equity() == 1000


def test_summary_without_an_account_is_unknown() -> None:
    assert PortfolioManager().get_portfolio_summary() == {"net_liquidation": None}


def test_unknown_equity_is_an_error(manager: PortfolioManager) -> None:
    with pytest.raises(LedgerError):
        manager.calculate_strategy_equity("ALPHA")


def test_equity_and_daily_profit_of_a_flat_strategy(manager: PortfolioManager) -> None:
    open_account(ACCOUNT, {"USD": Decimal(0)}, [], [fill(1, 10, 50), fill(2, -10, 51)], NOW, owner_of=owner_of)
    assert manager.calculate_strategy_equity("ALPHA") == 10
    assert manager.get_strategy_summary("Discretionary").symbol == "Discretionary"
    assert manager.get_daily_realized_pnl("ALPHA") == 0


def test_comparing_finds_breaks_and_moves_nothing(manager: PortfolioManager) -> None:
    fold_batch(ACCOUNT, [fill(1, 10, 50)], owner_of, NOW)
    (fact,) = manager.compare_positions({265598: Decimal(9)}, NOW)
    assert fact.state == "open"
    assert Position.objects.get().quantity == 10


async def test_status_goes_to_the_recorder_of_the_engine() -> None:
    seen: list[str] = []
    status = StatusSnapshot("Filled", Decimal(1), Decimal(0), None, NOW)
    manager = PortfolioManager(record_status=lambda strategy, trade, given: seen.append(f"{strategy} {given.status}"))
    await manager.record_status_change("ALPHA", TRADE, status)
    assert seen == ["ALPHA Filled"]
    with pytest.raises(LedgerError):
        await PortfolioManager().record_status_change("ALPHA", TRADE, status)


def test_many_threads_read_while_one_writes(manager: PortfolioManager) -> None:
    def read(_: int) -> Decimal:
        rows = manager.get_strategy_positions("ALPHA")
        assert connection.connection is None, "the thread's connection stayed open"
        return sum((row.quantity for row in rows), Decimal(0))

    seen: list[Decimal] = []
    with ThreadPoolExecutor(8) as pool:
        for number in range(1, 31):
            fold_batch(ACCOUNT, [fill(number, 1, 50)], owner_of, NOW)
            seen.extend(pool.map(read, range(4)))
            assert seen[-4:] == [number] * 4
