"""Prices of futures and options agree with their underlying's, with each other, and at every resolution."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.gateway.venue_desk import SPY_ID, START, executed, order, run, venue
from trading.gateway import option_model
from trading.gateway.exchange import Exchange, VenueOptions, build_venue
from trading.gateway.instrument import conforms
from trading.gateway.model import Bar, Contract, TickKind

SPX_ID = 416904


@cache
def exchange() -> Exchange:
    return venue()


@cache
def contract(**fields: object) -> Contract:
    return exchange().resolve(Contract(**fields))[0].contract  # type: ignore[arg-type]


def option(right: str, strike: float = 322.0, last: str = "20261218") -> int:
    return contract(
        symbol="SPY", sec_type="OPT", exchange="SMART", last_trade_date=last, strike=strike, right=right
    ).con_id


def future(symbol: str = "ES", exchange_: str = "CME", month: str = "202612") -> int:
    return contract(symbol=symbol, sec_type="FUT", exchange=exchange_, last_trade_date=month).con_id


DERIVED = [
    pytest.param(lambda: future(), id="future"),
    pytest.param(lambda: option("C"), id="call"),
    pytest.param(lambda: option("P"), id="put"),
]
moments = st.integers(0, 5 * 86_400).map(lambda s: START + timedelta(seconds=s))


def mark(con_id: int, now: datetime) -> Decimal:
    return exchange()._market.mark(con_id, now)


def bars(con_id: int, size: str, duration: str = "1 D", now: datetime = START) -> list[Bar]:
    return list(
        exchange().bars(con_id, end=now, duration=duration, bar_size=size, what="TRADES", use_rth=False, now=now)
    )


@settings(max_examples=60, deadline=None)
@given(moments)
def test_call_less_put_is_the_underlying_less_the_discounted_strike(now: datetime) -> None:
    """Put-call parity, within the rounding of three prices to their ticks."""
    years = exchange()._market.option(option("C"), now)
    assert years is not None
    forward = float(mark(SPY_ID, now)) - 322 * math.exp(-option_model.RATE * years[2])
    assert abs(float(mark(option("C"), now) - mark(option("P"), now)) - forward) <= 0.02


@settings(max_examples=60, deadline=None)
@given(moments)
def test_a_call_is_worth_less_at_a_higher_strike_and_more_with_more_time(now: datetime) -> None:
    assert mark(option("C", 315.0), now) >= mark(option("C", 322.0), now) >= mark(option("C", 330.0), now)
    assert mark(option("C", 322.0, "20270115"), now) >= mark(option("C", 322.0, "20261218"), now)


@settings(max_examples=60, deadline=None)
@given(moments)
def test_a_future_is_its_index_with_the_carry_and_a_micro_costs_the_same(now: datetime) -> None:
    index, front = float(mark(SPX_ID, now)), float(mark(future(), now))
    assert index < front < index * 1.006
    assert mark(future("MES"), now) == mark(future(), now)
    assert mark(future("ES", "CME", "202703"), now) > mark(future(), now)


def test_contango_makes_later_months_of_volatility_dearer() -> None:
    curve = [mark(future("VXM", "CFE", month), START) for month in ("202612", "202701", "202702", "202703")]
    assert curve == sorted(curve)
    assert curve[0] < curve[-1]


@pytest.mark.parametrize("derived", DERIVED)
def test_hours_are_made_of_their_minutes(derived: object) -> None:
    con_id = derived()  # type: ignore[operator]
    minutes = bars(con_id, "1 min", "7200 S")
    for hour in bars(con_id, "1 hour", "7200 S"):
        inside = [bar for bar in minutes if hour.start <= bar.start < hour.start + timedelta(hours=1)]
        if inside and inside[0].start == hour.start:
            assert hour.open == inside[0].open
            assert hour.close == inside[-1].close
            assert hour.high == max(bar.high for bar in inside)
            assert hour.low == min(bar.low for bar in inside)
            assert hour.volume == sum(bar.volume for bar in inside)


@pytest.mark.parametrize("derived", DERIVED)
def test_a_quote_lies_around_the_mark_and_within_its_minute(derived: object) -> None:
    con_id = derived()  # type: ignore[operator]
    for second in range(0, 60, 7):
        now = START.replace(second=second)
        quote = exchange().quote(con_id, now)
        assert quote.last is not None
        assert quote.bid is not None
        assert quote.ask is not None
        assert quote.bid < quote.ask
        assert quote.bid <= quote.last <= quote.ask
        (minute,) = bars(con_id, "1 min", "60 S", now=START.replace(second=59, microsecond=999_999))[-1:]
        assert minute.low <= quote.last <= minute.high


def test_index_options_trade_in_the_steps_of_their_rule() -> None:
    chain = exchange().option_chains(SPX_ID, "SMART")[0]
    instrument = exchange()._table
    for strike in (chain.strikes[0], chain.strikes[len(chain.strikes) // 2], chain.strikes[-1]):
        found = contract(
            symbol="SPX", sec_type="OPT", exchange="SMART", last_trade_date="20261218", strike=float(strike), right="C"
        )
        quote = exchange().quote(found.con_id, START)
        for price in (quote.bid, quote.ask, quote.last):
            assert price is not None
            assert conforms(price, instrument.get(found.con_id).tick(price))


def test_arrays_and_single_prices_agree() -> None:
    prices = np.array([280.0, 322.0, 350.0])
    for right in ("C", "P"):
        many = option_model.values(right, prices, 322.0, np.full(3, 0.1), 0.2)
        one = [option_model.value(right, p, 322.0, 0.1, 0.2) for p in prices]
        assert np.allclose(many, one)
    spent = option_model.values("C", prices, 322.0, np.zeros(3), 0.2)
    assert spent.tolist() == [0.0, 0.0, 28.0]


@given(st.sampled_from(["C", "P"]), st.floats(50, 150), st.floats(0.05, 2), st.floats(0.05, 1.5))
def test_sensitivities_are_the_slopes_of_the_price(
    right: option_model.Right, spot: float, years: float, vol: float
) -> None:
    found = option_model.greeks(right, spot, 100, years, vol)
    step = spot * 1e-4
    up, down = (option_model.value(right, spot + s, 100, years, vol) for s in (step, -step))
    assert found.delta == pytest.approx((up - down) / (2 * step), abs=1e-4)
    assert found.gamma == pytest.approx((up - 2 * found.price + down) / step**2, abs=1e-3)
    more = option_model.value(right, spot, 100, years, vol + 1e-5)
    assert found.vega == pytest.approx((more - found.price) / 1e-5 / 100, abs=1e-3)


def test_no_volatility_explains_a_price_below_the_intrinsic_value() -> None:
    assert option_model.implied_volatility("C", 5.0, 110, 100, 0.5) is None
    assert option_model.implied_volatility("C", 111.0, 110, 100, 0.5) is None
    assert option_model.implied_volatility("C", 12.0, 110, 100, 0.0) is None


class TestSingleTicks:
    def test_trades_of_a_minute_add_up_to_its_bar(self) -> None:
        for con_id in (SPY_ID, future(), option("C")):
            minute = START.replace(second=0)
            (bar,) = bars(con_id, "1 min", "60 S", now=minute + timedelta(minutes=1))
            ticks = exchange().ticks(con_id, TickKind.TRADES, minute, minute + timedelta(minutes=1))
            assert sum(tick.size for tick in ticks) == bar.volume
            assert all(bar.low <= tick.price <= bar.high for tick in ticks)
            assert ticks[-1].price == bar.close
            assert all(minute <= tick.time < minute + timedelta(minutes=1) for tick in ticks)

    def test_looks_one_after_the_other_see_every_tick_once(self) -> None:
        whole = exchange().ticks(SPY_ID, TickKind.QUOTES, START, START + timedelta(seconds=60))
        parts = [
            tick
            for n in range(60)
            for tick in exchange().ticks(
                SPY_ID, TickKind.QUOTES, START + timedelta(seconds=n), START + timedelta(seconds=n + 1)
            )
        ]
        assert parts == list(whole)
        assert all((a.bid, a.ask) != (b.bid, b.ask) for a, b in pairwise(whole))

    def test_the_past_is_told_forward_from_a_start_and_backward_from_an_end(self) -> None:
        begin = START - timedelta(hours=1)
        ahead = exchange().past_ticks(
            SPY_ID, TickKind.TRADES, start=begin, end=None, count=10, use_rth=False, now=START
        )
        back = exchange().past_ticks(SPY_ID, TickKind.TRADES, start=None, end=START, count=10, use_rth=False, now=START)
        assert len(ahead) == len(back) == 10
        assert ahead[0].time >= begin
        assert back[-1].time < START
        for ticks in (ahead, back):
            assert [t.time for t in ticks] == sorted(t.time for t in ticks)


class TestHours:
    NIGHT = datetime(2026, 11, 18, 7, 0, tzinfo=UTC)  # 02:00 in New York, 01:00 in Chicago
    EVENING = datetime(2026, 11, 18, 23, 0, tzinfo=UTC)

    def test_futures_trade_at_night_while_options_and_stocks_sleep(self) -> None:
        night = venue(hours="exchange")
        es = night.resolve(Contract(symbol="ES", sec_type="CONTFUT", exchange="CME"))[0].contract.con_id
        assert night.is_open(es, self.NIGHT)
        assert not night.is_open(SPY_ID, self.NIGHT)
        chain = night.option_chains(SPY_ID, "SMART")[0]
        call = night.resolve(
            Contract(
                symbol="SPY", sec_type="OPT", exchange="SMART", last_trade_date=chain.expiries[5],
                strike=float(chain.strikes[100]), right="C",
            )
        )[0].contract.con_id  # fmt: skip
        assert not night.is_open(call, self.EVENING)
        assert night.quote(call, self.EVENING).bid is None
        assert night.quote(call, self.EVENING, frozen=True).bid is not None

    def test_an_order_for_a_future_is_filled_at_night(self) -> None:
        night = venue(hours="exchange")
        future = Contract(symbol="ES", sec_type="FUT", exchange="CME", last_trade_date="202612")
        moment = self.EVENING + timedelta(hours=4)
        events = night.place(order(1, "BUY", 1, contract=future), moment)
        events += run(night, moment, moment + timedelta(seconds=5))
        assert executed(events) == 1

    def test_regular_hours_of_an_index_future_are_those_of_stocks(self) -> None:
        day = venue(hours="exchange")
        es = day.resolve(Contract(symbol="ES", sec_type="CONTFUT", exchange="CME"))[0]
        assert es.liquid_hours.startswith("20261118:0830-20261118:1500")
        assert es.trading_hours.startswith("20261117:1700-20261118:1700")
        regular, all_day = (
            day.bars(
                es.contract.con_id, end=self.EVENING, duration="1 D", bar_size="1 hour", what="TRADES",
                use_rth=use_rth, now=self.EVENING,
            )
            for use_rth in (True, False)
        )  # fmt: skip
        assert len(regular) < len(all_day)


def test_in_the_bars_own_time_the_months_of_then_are_listed() -> None:
    past = build_venue(VenueOptions(clock="replay"))
    now = past.market_now(START)
    past.advance(now)
    (front,) = past.resolve(Contract(symbol="ES", sec_type="CONTFUT", exchange="CME"))
    assert "20191220" < f"{now:%Y%m%d}" < front.contract.last_trade_date == "20200320"
    assert past.quote(front.contract.con_id, now).last is not None
    chain = past.option_chains(SPY_ID, "SMART")[0]
    assert f"{now:%Y%m%d}" <= chain.expiries[0] < f"{now + timedelta(days=8):%Y%m%d}"
