"""Futures and options: what is listed, how it is named and found, and when it ends."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.gateway.venue_desk import SPY_ID, START, venue
from trading.gateway import derivatives
from trading.gateway.derivative_dates import expiry_moment, future_expiry, option_expiry, week_of
from trading.gateway.derivatives import future_con_id, future_of, future_roots, option_con_id, option_of, option_roots
from trading.gateway.exchange import Exchange, VenueOptions, build_venue
from trading.gateway.instruments import InstrumentTable, load_table
from trading.gateway.model import Contract, ContractDetails, RequestError

ROOTS = {root.trading_class: root for root in future_roots().values()}
SPY_OPTIONS = next(root for root in option_roots().values() if root.symbol == "SPY")


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return venue()


def found(exchange: Exchange, /, *, include_expired: bool = False, **fields: Any) -> list[ContractDetails]:
    return list(exchange.resolve(Contract(**fields), include_expired=include_expired))


@pytest.mark.parametrize(
    ("trading_class", "month", "last_day"),
    [
        ("ES", (2026, 12), date(2026, 12, 18)),
        ("MES", (2026, 3), date(2026, 3, 20)),
        ("VX", (2026, 12), date(2026, 12, 16)),  # 30 days before the third Friday of January
        ("VXM", (2027, 1), date(2027, 1, 20)),
        ("CL", (2026, 12), date(2026, 11, 20)),  # three sessions before 25 November
        ("GC", (2026, 12), date(2026, 12, 29)),
        ("6E", (2026, 12), date(2026, 12, 14)),
    ],
)
def test_futures_end_by_the_rules_of_their_exchanges(
    trading_class: str, month: tuple[int, int], last_day: date
) -> None:
    assert future_expiry(ROOTS[trading_class].rule, *month) == last_day


def test_options_end_on_the_session_before_a_holiday() -> None:
    assert option_expiry(week_of(date(2026, 4, 1))) == date(2026, 4, 2)  # Good Friday is the 3rd
    assert option_expiry(week_of(date(2026, 11, 20))) == date(2026, 11, 20)


def test_contracts_settle_at_four_in_new_york_summer_and_winter() -> None:
    assert expiry_moment("20261218").isoformat() == "2026-12-18T21:00:00+00:00"
    assert expiry_moment("20260618").isoformat() == "2026-06-18T20:00:00+00:00"


@given(
    st.sampled_from(sorted(option_roots().values(), key=lambda root: root.number)),
    st.integers(0, derivatives.WEEKS - 1),
    st.integers(1, derivatives.STRIKES - 1),
    st.sampled_from("CP"),
)
def test_an_options_id_says_what_it_is(root: derivatives.OptionRoot, week: int, strike: int, right: str) -> None:
    con_id = option_con_id(root, week, strike * root.step, right)
    assert con_id is not None
    assert con_id < 2**31
    read = option_of(con_id)
    assert read is not None
    assert (read.root, read.week, read.strike, read.right) == (root, week, strike * root.step, right)


@given(
    st.sampled_from(sorted(future_roots().values(), key=lambda root: root.number)),
    st.integers(2000, 2099),
    st.integers(1, 12),
)
def test_a_futures_id_says_what_it_is(root: derivatives.FutureRoot, year: int, month: int) -> None:
    read = future_of(future_con_id(root, year, month))
    listed = derivatives.MONTH_CODES[month - 1] in root.cycle
    assert read == (derivatives.FutureId(root, year, month) if listed else None)


def test_no_listed_id_is_also_that_of_a_derivative() -> None:
    assert not [i.con_id for i in load_table() if option_of(i.con_id) or future_of(i.con_id)]


def test_a_future_without_month_means_all_listed_ones(exchange: Exchange) -> None:
    months = found(exchange, symbol="ES", sec_type="FUT", exchange="CME")
    assert [d.contract.local_symbol for d in months] == ["ESZ6", "ESH7", "ESM7", "ESU7", "ESZ7"]
    first = months[0]
    assert (first.contract.multiplier, first.contract.last_trade_date) == ("50", "20261218")
    assert (first.contract_month, first.under_con_id, first.under_symbol) == ("202612", 416904, "SPX")
    assert first.min_tick == Decimal("0.25")
    assert {d.contract.multiplier for d in found(exchange, symbol="VXM", sec_type="FUT", exchange="CFE")} == {"100"}


@pytest.mark.parametrize(
    "fields",
    [
        {"symbol": "ES", "last_trade_date": "202612"},
        {"symbol": "ES", "last_trade_date": "20261218"},
        {"local_symbol": "ESZ6"},
        {"symbol": "ES", "local_symbol": "ESZ6", "currency": "USD"},
    ],
)
def test_month_day_and_local_symbol_name_one_future(exchange: Exchange, fields: dict[str, Any]) -> None:
    assert [d.contract.local_symbol for d in found(exchange, sec_type="FUT", exchange="CME", **fields)] == ["ESZ6"]


def test_a_crude_oil_month_is_not_the_month_of_its_last_day(exchange: Exchange) -> None:
    (december,) = found(exchange, symbol="CL", sec_type="FUT", exchange="NYMEX", last_trade_date="202612")
    assert december.contract.last_trade_date == "20261120"


def test_an_order_for_an_unnamed_month_is_ambiguous(exchange: Exchange) -> None:
    with pytest.raises(RequestError, match="ambiguous") as refused:
        exchange._table.single(Contract(symbol="ES", sec_type="FUT", exchange="CME"))
    assert refused.value.code == 200


def test_a_continuous_future_is_the_front_month(exchange: Exchange) -> None:
    (front,) = found(exchange, symbol="NQ", sec_type="CONTFUT", exchange="CME")
    assert (front.contract.sec_type, front.contract.local_symbol) == ("CONTFUT", "NQZ6")
    both = found(exchange, symbol="NQ", sec_type="FUT+CONTFUT", exchange="CME")
    assert [d.contract.sec_type for d in both] == ["FUT"] * 5 + ["CONTFUT"]


def test_expired_futures_are_found_only_when_asked_for(exchange: Exchange) -> None:
    asked: dict[str, Any] = {"symbol": "ES", "sec_type": "FUT", "exchange": "CME", "last_trade_date": "202606"}
    with pytest.raises(RequestError):
        found(exchange, **asked)
    (expired,) = found(exchange, include_expired=True, **asked)
    assert found(exchange, include_expired=True, con_id=expired.contract.con_id)
    with pytest.raises(RequestError):
        found(exchange, con_id=expired.contract.con_id)
    bars = exchange.bars(
        expired.contract.con_id, end=START, duration="1 M", bar_size="1 day", what="TRADES", use_rth=False, now=START
    )
    assert bars[-1].start.date() <= date(2026, 6, 18)


def test_a_contract_leaves_the_list_at_its_settlement() -> None:
    exchange = venue()
    (front,) = found(exchange, symbol="VXM", sec_type="FUT", exchange="CFE", last_trade_date="20261118")
    settled = expiry_moment(front.contract.last_trade_date)
    exchange.advance(settled - timedelta(seconds=1))
    assert found(exchange, con_id=front.contract.con_id)
    exchange.advance(settled)
    with pytest.raises(RequestError):
        found(exchange, con_id=front.contract.con_id)


def test_a_chain_lists_expiries_and_strikes_around_the_price(exchange: Exchange) -> None:
    chain = exchange.option_chains(SPY_ID, "SMART")[0]
    assert (chain.trading_class, chain.multiplier) == ("SPY", "100")
    assert chain.expiries[:4] == ("20261120", "20261127", "20261204", "20261211")
    assert "20261218" in chain.expiries
    assert "20280121" in chain.expiries
    price = exchange.quote(SPY_ID, START).last
    assert price is not None
    assert chain.strikes[0] < price * Decimal("0.8") < price * Decimal("1.2") < chain.strikes[-1]
    assert {c.exchange for c in exchange.option_chains(SPY_ID, "")} >= {"SMART", "CBOE", "AMEX"}
    assert exchange.option_chains(12087792, "") == []


def test_weeks_of_an_index_have_a_class_of_their_own(exchange: Exchange) -> None:
    classes = {c.trading_class: c.expiries for c in exchange.option_chains(416904, "CBOE")}
    assert "20261218" in classes["SPX"]
    assert "20261218" not in classes["SPXW"]
    assert "20261127" in classes["SPXW"]


def test_every_member_of_a_chain_is_a_contract(exchange: Exchange) -> None:
    chain = exchange.option_chains(SPY_ID, "SMART")[0]
    asked: dict[str, Any] = {
        "symbol": "SPY",
        "sec_type": "OPT",
        "exchange": "SMART",
        "last_trade_date": chain.expiries[1],
    }
    calls = found(exchange, right="C", **asked)
    assert [Decimal(str(d.contract.strike)) for d in calls] == list(chain.strikes)
    (one,) = found(exchange, right="PUT", strike=float(chain.strikes[5]), **asked)
    assert one.contract.right == "P"
    assert one.contract.local_symbol == f"SPY   261127P{int(chain.strikes[5] * 1000):08d}"
    assert one.under_con_id == SPY_ID
    local = found(exchange, sec_type="OPT", exchange="SMART", local_symbol=one.contract.local_symbol)
    assert [d.contract for d in local] == [one.contract]


@pytest.mark.parametrize(
    "fields",
    [
        {"strike": 322.5, "last_trade_date": "20261127"},  # off the grid
        {"strike": 1.0, "last_trade_date": "20261127"},  # too far away
        {"strike": 322.0, "last_trade_date": "20261126"},  # no last day
        {"strike": 322.0, "last_trade_date": "20261113"},  # over
    ],
)
def test_an_option_that_is_not_listed_is_not_found(exchange: Exchange, fields: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as refused:
        found(exchange, symbol="SPY", sec_type="OPT", exchange="SMART", **fields)
    assert refused.value.code == 200


def test_without_its_underlying_nothing_is_listed_on_it() -> None:
    table = InstrumentTable(i for i in load_table() if i.con_id not in (SPY_ID, 416904))
    table.derivatives.now = START
    table.derivatives.centre = lambda _: Decimal(300)
    for query in (Contract(symbol="SPY", sec_type="OPT"), Contract(symbol="ES", sec_type="FUT")):
        with pytest.raises(RequestError):
            table.match(query)
    assert table.match(Contract(symbol="CL", sec_type="FUT"))


def test_the_line_in_pence_says_so(exchange: Exchange) -> None:
    (london,) = found(exchange, symbol="VOD", sec_type="STK", exchange="LSE")
    assert (london.price_magnifier, london.contract.currency, london.time_zone) == (100, "GBP", "Europe/London")
    assert london.liquid_hours.startswith("20261118:0800-20261118:1630")


def test_a_search_tells_what_is_listed_on_a_symbol(exchange: Exchange) -> None:
    kinds = {d.contract.con_id: d.derivatives for d in exchange.search("SP")}
    assert kinds[SPY_ID] == ("OPT",)
    assert kinds[416904] == ("FUT", "OPT")


def test_nobody_can_find_the_commodity_behind_a_future(exchange: Exchange) -> None:
    (oil,) = {d.under_con_id for d in found(exchange, symbol="CL", sec_type="FUT")} or {0}
    for con_id in (oil, ROOTS["CL"].underlying):
        with pytest.raises(RequestError):
            found(exchange, con_id=con_id)


def test_what_is_listed_is_right_before_the_market_has_moved() -> None:
    exchange = build_venue(VenueOptions())
    assert exchange.market_now(START) == START
    (front,) = found(exchange, symbol="ES", sec_type="CONTFUT", exchange="CME")
    assert front.contract.last_trade_date == "20261218"
    assert front.liquid_hours.startswith("20261118:")
    assert exchange.option_chains(SPY_ID, "SMART")[0].expiries[0] == "20261120"
