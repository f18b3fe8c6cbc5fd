"""Futures and options in the account: cash, margin, fees, expiry and exercise."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.unit.gateway.venue_desk import SPY_ID, START, codes, commissions, executed, only, order, run, venue
from trading.gateway.derivative_dates import expiry_moment
from trading.gateway.exchange import Exchange, VenueOptions, build_venue
from trading.gateway.margins import margin_of
from trading.gateway.model import Contract, Executed, OrderWhatIf, PositionChanged, RequestError

MES = Contract(symbol="MES", sec_type="FUT", exchange="CME", currency="USD", last_trade_date="202612")
VXM = Contract(symbol="VXM", sec_type="FUT", exchange="CFE", currency="USD", last_trade_date="20261118")
DAY = "20261120"
AFTER = expiry_moment(DAY) + timedelta(seconds=2)


def spy(right: str, strike: float) -> Contract:
    return Contract(
        symbol="SPY", sec_type="OPT", exchange="SMART", currency="USD", last_trade_date=DAY, strike=strike, right=right
    )


def con_id(exchange: Exchange, contract: Contract) -> int:
    return exchange.resolve(contract, include_expired=True)[0].contract.con_id


def hold(exchange: Exchange, contract: Contract, quantity: int, order_id: int = 1) -> Decimal:
    """Trade at the market; return the price."""
    action = "BUY" if quantity > 0 else "SELL"
    events = exchange.place(order(order_id, action, abs(quantity), contract=contract), START)
    events += run(exchange, START, START + timedelta(seconds=5))
    assert executed(events) == abs(quantity), codes(events)
    return only(Executed, events)[-1].execution.average_price


def cash(exchange: Exchange, now: datetime, currency: str = "USD") -> Decimal:
    rows = {(row.key, row.currency): row.value for row in exchange.account_values(now)}
    return Decimal(rows["CashBalance", currency])


def quantities(exchange: Exchange, now: datetime) -> dict[str, Decimal]:
    return {row.contract.local_symbol: row.quantity for row in exchange.positions(now) if row.quantity}


def impact(exchange: Exchange, contract: Contract, action: str, quantity: int) -> OrderWhatIf:
    events = exchange.place(order(90, action, quantity, contract=contract, what_if=True), START)
    (answer,) = only(OrderWhatIf, events)
    return answer


def test_cash_is_what_the_reconciliation_expects_of_a_future() -> None:
    """Σ owners' cash (at notional) and quantity · mark · multiplier, as ADR 6 says."""
    exchange = venue(speed=600)
    price = hold(exchange, MES, 3)
    for seconds in (10, 60, 600):
        now = START + timedelta(seconds=seconds)
        mark = exchange.positions(now)[0].market_price
        owner = Decimal(1_000_000) - 3 * price * 5 - 3 * Decimal("0.62")
        assert cash(exchange, now) == owner + 3 * mark * 5


def test_a_future_costs_its_fee_and_an_option_its_premium() -> None:
    exchange = venue()
    hold(exchange, MES, 2)
    events = exchange.place(order(2, "BUY", 4, contract=spy("C", 322)), START + timedelta(seconds=6))
    events += run(exchange, START + timedelta(seconds=6), START + timedelta(seconds=9))
    assert sum(report.commission.amount for report in commissions(events)) == Decimal("2.60")
    values = {(row.key, row.currency): row.value for row in exchange.account_values(START + timedelta(seconds=9))}
    assert Decimal(values["OptionMarketValue", "USD"]) > 0
    assert Decimal(values["StockMarketValue", "USD"]) == 0


@pytest.mark.parametrize(
    ("contract", "action", "quantity", "initial", "maintenance"),
    [(MES, "BUY", 2, 3520, 3200), (MES, "SELL", 2, 3520, 3200), (VXM, "SELL", 1, 990, 900)],
)
def test_futures_bind_the_amounts_of_their_table(
    contract: Contract, action: str, quantity: int, initial: int, maintenance: int
) -> None:
    found = impact(venue(), contract, action, quantity).what_if
    assert [found.init_margin_change, found.maint_margin_change] == [Decimal(initial), Decimal(maintenance)]


def test_a_long_option_binds_its_value_and_closing_one_sets_it_free() -> None:
    exchange = venue()
    mark = exchange._market.mark(con_id(exchange, spy("C", 322)), START)
    assert impact(exchange, spy("C", 322), "BUY", 3).what_if.init_margin_change == 300 * mark
    hold(exchange, spy("C", 322), 3)
    assert impact(exchange, spy("C", 322), "SELL", 3).what_if.init_margin_change < 0


def test_a_short_option_binds_the_standard_margin() -> None:
    """Spot 300, multiplier 100: a put of strike 290 that costs 2 binds 200 and 20 % of 300 less 10, so 5,200."""
    put = Contract(con_id=con_id(venue(), spy("P", 322)), sec_type="OPT", right="P", strike=290.0, multiplier="100")

    def marks(which: int) -> Decimal:
        return Decimal(300) if which == SPY_ID else Decimal(2)

    for quantity, strike, bound in ((-1, 290.0, 5200), (-2, 290.0, 10_400), (-1, 200.0, 2200), (1, 290.0, 200)):
        at = Contract(con_id=put.con_id, sec_type="OPT", right="P", strike=strike, multiplier="100")
        found = margin_of(at, Decimal(quantity), Decimal(100), marks)
        assert [found.initial, found.maintenance] == [Decimal(bound), Decimal(bound)]


def test_more_futures_than_equity_covers_are_refused() -> None:
    exchange = venue(cash=Decimal(10_000))
    events = exchange.place(order(1, "BUY", 6, contract=MES), START)
    assert codes(events) == [201]
    assert codes(exchange.place(order(2, "BUY", 5, contract=MES), START)) == []


def test_an_expired_future_leaves_at_its_last_price_and_cash_does_not_jump() -> None:
    exchange = venue()
    hold(exchange, VXM, -2)
    settles = expiry_moment("20261118")
    last = exchange._market.mark(con_id(exchange, VXM), settles)
    before = cash(exchange, settles - timedelta(milliseconds=1))
    events = exchange.advance(settles + timedelta(seconds=1))
    assert only(PositionChanged, events) == [PositionChanged(con_id(exchange, VXM))]
    assert only(Executed, events) == []
    after = settles + timedelta(seconds=1)
    assert quantities(exchange, after) == {}
    assert abs(cash(exchange, after) - before) <= 2 * 100 * Decimal("0.2")
    (row,) = exchange.positions(after)
    assert row.realized_pnl != 0
    assert last > 0


def test_orders_of_an_expired_contract_end_and_new_ones_are_unknown() -> None:
    exchange = venue()
    exchange.place(order(1, "BUY", 1, contract=VXM, order_type="LMT", limit_price="1.00", tif="GTC"), START)
    exchange.advance(START + timedelta(seconds=1))
    after = expiry_moment("20261118") + timedelta(seconds=2)
    assert codes(exchange.advance(after)) == [202]
    assert codes(exchange.place(order(2, "BUY", 1, contract=VXM), after)) == [200]


@pytest.mark.parametrize(("right", "side"), [("C", 1), ("C", -1), ("P", 1), ("P", -1)])
def test_an_option_in_the_money_becomes_shares_at_its_strike(right: str, side: int) -> None:
    """Cash moves by the strike alone; the premium goes into the cost of the shares, nothing is realised."""
    exchange = venue()
    strike = 300.0 if right == "C" else 345.0
    hold(exchange, spy(right, strike), 2 * side)
    before, premium = cash(exchange, START + timedelta(seconds=6)), exchange.positions(START)[0].average_cost
    option_id = con_id(exchange, spy(right, strike))
    events = exchange.advance(AFTER)
    shares = 200 * side * (1 if right == "C" else -1)
    assert {event.con_id for event in only(PositionChanged, events)} == {option_id, SPY_ID}
    assert quantities(exchange, AFTER) == {"SPY": shares}
    assert cash(exchange, AFTER) == before - shares * Decimal(str(strike))
    stock = next(row for row in exchange.positions(AFTER) if row.contract.con_id == SPY_ID)
    assert stock.average_cost == (shares * Decimal(str(strike)) + 2 * side * premium) / shares
    assert stock.realized_pnl == 0


def test_an_option_out_of_the_money_is_lost() -> None:
    exchange = venue()
    hold(exchange, spy("C", 380), 1)
    before = cash(exchange, START + timedelta(seconds=6))
    exchange.advance(AFTER)
    assert quantities(exchange, AFTER) == {}
    assert cash(exchange, AFTER) == before


def test_an_index_option_is_paid_out() -> None:
    exchange = venue(cash=Decimal(10_000_000))
    chain = next(c for c in exchange.option_chains(416904, "SMART") if DAY in c.expiries)
    strike = chain.strikes[2]
    call = Contract(
        symbol="SPX", sec_type="OPT", exchange="SMART", currency="USD", last_trade_date=DAY, strike=float(strike),
        right="C",
    )  # fmt: skip
    hold(exchange, call, 1)
    before = cash(exchange, START + timedelta(seconds=6))
    exchange.advance(AFTER)
    index = exchange._market.mark(416904, expiry_moment(DAY))
    assert quantities(exchange, AFTER) == {}
    assert cash(exchange, AFTER) == before + 100 * (index - strike)


def test_a_gateway_that_was_down_settles_at_the_price_of_then(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    first = venue(state_file=state)
    hold(first, spy("C", 300), 1)
    hold(first, VXM, 2, order_id=2)
    spent = first._state.account.cash["USD"]
    first.close()
    second = build_venue(VenueOptions(state_file=state))
    later = AFTER + timedelta(days=3)
    second.advance(later)
    settled = second._market.mark(con_id(second, VXM), expiry_moment("20261118"))
    assert second._state.account.cash["USD"] == spent - 100 * 300 + 2 * 100 * settled
    second.close()
    third = build_venue(VenueOptions(state_file=state))
    third.advance(later + timedelta(seconds=1))
    assert quantities(third, later + timedelta(seconds=1)) == {"SPY": 100}
    assert third._state.account.cash == second._state.account.cash


class TestEarlyExercise:
    def exercise(self, exchange: Exchange, contract: Contract, quantity: int, *, override: bool = False) -> None:
        exchange.exercise_option(
            contract, exercise=True, quantity=Decimal(quantity), override=override, now=START + timedelta(seconds=6)
        )

    def test_part_of_a_position_becomes_shares(self) -> None:
        exchange = venue()
        hold(exchange, spy("C", 300), 3)
        self.exercise(exchange, spy("C", 300), 2)
        held = quantities(exchange, START + timedelta(seconds=7))
        assert held == {"SPY   261120C00300000": 1, "SPY": 200}

    @pytest.mark.parametrize(("strike", "quantity"), [(300.0, 4), (380.0, 1), (300.0, 0)])
    def test_what_is_not_held_or_not_worth_it_is_refused(self, strike: float, quantity: int) -> None:
        exchange = venue()
        hold(exchange, spy("C", strike), 3)
        with pytest.raises(RequestError):
            self.exercise(exchange, spy("C", strike), quantity)
        assert quantities(exchange, START + timedelta(seconds=7)) != {}

    def test_a_short_option_cannot_be_exercised(self) -> None:
        exchange = venue()
        hold(exchange, spy("C", 300), -1)
        with pytest.raises(RequestError):
            self.exercise(exchange, spy("C", 300), 1)

    def test_override_exercises_out_of_the_money(self) -> None:
        exchange = venue()
        hold(exchange, spy("C", 345), 1)
        self.exercise(exchange, spy("C", 345), 1, override=True)
        assert quantities(exchange, START + timedelta(seconds=7)) == {"SPY": 100}


def test_a_line_in_pence_is_paid_in_pounds() -> None:
    vodafone = Contract(symbol="VOD", sec_type="STK", exchange="SMART", currency="GBP")
    exchange = venue()
    price = hold(exchange, vodafone, 1000)
    assert price > 50  # pence
    (row,) = exchange.positions(START + timedelta(seconds=6))
    assert row.market_value == 1000 * row.market_price / 100
    spent = -cash(exchange, START + timedelta(seconds=6), "GBP")
    assert 1000 * price / 100 < spent < 1000 * price / 100 + 10
    assert row.average_cost == spent / 1000
