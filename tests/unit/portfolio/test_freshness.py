"""How long a price stands, and what equity follows from it over nights and weekends."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from portfolio.freshness import is_fresh, trading_time
from portfolio.models import Instrument, Mark
from portfolio.services import (
    allocate_strategy,
    ensure_account,
    fold_batch,
    open_account,
    record_account_values,
    record_marks,
    strategy_equity,
    take_equity_snapshot,
)
from strategies.models import Strategy
from tests.unit.portfolio.builders import ACCOUNT, NOW, fill, owner_of

STOCK = Instrument(con_id=1, symbol="AAPL", sec_type="STK", currency="USD", exchange="SMART", primary_exchange="NASDAQ")
COIN = Instrument(con_id=2, symbol="BTC", sec_type="CRYPTO", currency="USD", exchange="PAXOS")
FRIDAY_CLOSE = datetime(2026, 3, 6, 21, 0, tzinfo=UTC)
MONDAY_OPEN = datetime(2026, 3, 9, 13, 30, tzinfo=UTC)  # New York has moved its clocks over that weekend


@pytest.mark.parametrize(
    ("age", "fresh"), [(timedelta(minutes=15), True), (timedelta(minutes=16), False), (timedelta(hours=2), False)]
)
def test_mark_grows_old_while_its_market_is_open(age: timedelta, fresh: bool) -> None:
    assert is_fresh(STOCK, NOW, NOW + age) is fresh


def test_last_price_of_a_session_holds_over_a_weekend() -> None:
    marked = FRIDAY_CLOSE - timedelta(minutes=5)
    assert is_fresh(STOCK, marked, MONDAY_OPEN + timedelta(minutes=10))
    assert not is_fresh(STOCK, marked, MONDAY_OPEN + timedelta(minutes=11))


def test_price_long_before_the_close_is_old_at_night() -> None:
    assert not is_fresh(STOCK, FRIDAY_CLOSE - timedelta(hours=2), FRIDAY_CLOSE + timedelta(hours=5))


def test_price_after_the_close_holds_until_the_next_session() -> None:
    assert is_fresh(STOCK, FRIDAY_CLOSE + timedelta(hours=3), MONDAY_OPEN)


def test_market_of_no_known_hours_goes_by_the_clock() -> None:
    assert not is_fresh(COIN, FRIDAY_CLOSE, FRIDAY_CLOSE + timedelta(minutes=16))


def test_no_mark_stands_longer_than_any_market_rests() -> None:
    assert not is_fresh(STOCK, FRIDAY_CLOSE - timedelta(days=30), FRIDAY_CLOSE)


def test_trading_time_leaves_nights_and_holidays_out() -> None:
    christmas = datetime(2026, 12, 24, 17, 0, tzinfo=UTC)  # an early close at 18:00 UTC
    assert trading_time("XNYS", christmas, datetime(2026, 12, 28, 14, 40, tzinfo=UTC)) == timedelta(hours=1, minutes=10)


@pytest.mark.django_db
class TestEquityOverTheWeekend:
    @pytest.fixture(autouse=True)
    def _books(self) -> None:
        Strategy.objects.create(symbol="ALPHA", filename="a.py", target_weight=Decimal("0.2"))
        ensure_account(ACCOUNT, "USD")
        open_account(ACCOUNT, {"USD": Decimal(100_000)}, [], [], NOW)
        record_account_values(ACCOUNT, [("NetLiquidation", "100000", "USD")], NOW)
        allocate_strategy(ACCOUNT, "ALPHA", Decimal(20_000), "USD", NOW)
        fold_batch(ACCOUNT, [fill(1, 100, 50)], owner_of, NOW)
        record_marks({265598: Decimal(55)}, FRIDAY_CLOSE)

    def test_equity_stays_that_of_the_last_prices(self) -> None:
        assert strategy_equity(ACCOUNT, "ALPHA", MONDAY_OPEN) == 20_500

    def test_equity_of_the_last_standing_prices_holds_for_a_day_after_they_grew_old(self) -> None:
        stood, fell = MONDAY_OPEN + timedelta(minutes=10), MONDAY_OPEN + timedelta(minutes=40)
        take_equity_snapshot(ACCOUNT, stood)
        Mark.objects.update(price=Decimal(1))  # what is shown later must not count: the price is old
        take_equity_snapshot(ACCOUNT, fell)
        assert strategy_equity(ACCOUNT, "ALPHA", fell) == 20_500
        later = stood + timedelta(hours=25)
        record_account_values(ACCOUNT, [("NetLiquidation", "100000", "USD")], later)
        assert strategy_equity(ACCOUNT, "ALPHA", later) == 20_000  # weight × net liquidation

    def test_snapshot_of_the_future_is_no_equity(self) -> None:
        take_equity_snapshot(ACCOUNT, MONDAY_OPEN + timedelta(minutes=5))
        Mark.objects.all().delete()
        fold_batch(ACCOUNT, [fill(2, -100, 50)], owner_of, NOW)
        assert strategy_equity(ACCOUNT, "ALPHA", MONDAY_OPEN) == 20_000
