"""Liquid hours: IB's word, narrowed by what operators entered."""

from __future__ import annotations

from datetime import UTC, date, datetime, time

import pytest
from ib_async import Contract

from trading.market.calendars import NO_OVERRIDES, HolidayOverride, HoursOverride, Overrides
from trading.market.liquid_hours import LiquidHours, Session, read_hours

STOCK = Contract(conId=1, secType="STK", symbol="AAPL", exchange="SMART", primaryExchange="NASDAQ", currency="USD")
FRIDAY = date(2026, 11, 20)
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


SAID = read_hours("20261120:0930-20261120:1600;20261121:CLOSED;20261123:0930-20261123:1600", "America/New_York")
BOTH = ((at(20, 14, 30), at(20, 21)), (at(23, 14, 30), at(23, 21)))


def left(*overrides: HolidayOverride | HoursOverride, contract: Contract = STOCK) -> tuple[Session, ...] | None:
    rows = Overrides(
        tuple(one for one in overrides if isinstance(one, HoursOverride)),
        tuple(one for one in overrides if isinstance(one, HolidayOverride)),
    )
    hours = LiquidHours(lambda: rows)
    assert SAID == BOTH
    hours.put(contract.conId, SAID, NOW, contract)
    return hours.get(contract.conId, NOW)


def test_without_rows_ibs_word_holds() -> None:
    assert left() == BOTH


def test_holiday_of_the_operators_closes_the_day_and_no_other() -> None:
    assert left(HolidayOverride("US_EQUITY", FRIDAY, "Mourning")) == BOTH[1:]


def test_stock_of_an_exchange_without_a_calendar_keeps_the_holidays_of_its_country() -> None:
    pink = Contract(conId=4, secType="STK", symbol="OTC", exchange="SMART", primaryExchange="PINK", currency="USD")
    assert left(HolidayOverride("US_EQUITY", FRIDAY, "Mourning"), contract=pink) == BOTH[1:]


def test_early_close_ends_the_day() -> None:
    assert left(HolidayOverride("US_EQUITY", FRIDAY, "Half", time(13))) == ((at(20, 14, 30), at(20, 18)), BOTH[1])


def test_other_hours_narrow_and_never_widen() -> None:
    hours = HoursOverride("US_EQUITY", FRIDAY, FRIDAY, time(8), time(12))
    assert left(hours) == ((at(20, 14, 30), at(20, 17)), BOTH[1])


def test_day_that_operators_open_stays_closed_when_ib_says_so() -> None:
    assert left(HolidayOverride("US_EQUITY", date(2026, 11, 21), "Saturday", None, True)) == BOTH


@pytest.mark.parametrize(
    "contract",
    [
        Contract(conId=2, secType="STK", symbol="VOD", exchange="LSE", primaryExchange="LSE", currency="GBP"),
        Contract(conId=3, secType="FUT", symbol="XX", exchange="NOWHERE", currency="USD"),
    ],
)
def test_rows_of_another_group_change_nothing(contract: Contract) -> None:
    assert left(HolidayOverride("US_EQUITY", FRIDAY, "Mourning"), contract=contract) == BOTH


def test_row_that_is_entered_after_hours_were_read_holds_at_once() -> None:
    rows = [NO_OVERRIDES]
    hours = LiquidHours(lambda: rows[0])
    assert SAID is not None
    hours.put(1, SAID, NOW)
    assert hours.get(1, NOW) == BOTH
    rows[0] = Overrides((), (HolidayOverride("US_EQUITY", FRIDAY, "Mourning"),))
    assert hours.get(1, NOW) == BOTH[1:]
    rows[0] = NO_OVERRIDES
    assert hours.get(1, NOW) == BOTH
    assert hours.get(1, at(21, 12)) is None
