"""The paper account: cash, positions, margin and profit, and laws that hold after every execution."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.gateway.venue_desk import AAPL, EURUSD, SECOND, SPY, SPY_ID, START, order, run, venue
from trading.gateway.account import Account, Trade
from trading.gateway.account_values import account_summary, account_values
from trading.gateway.exchange import Exchange
from trading.gateway.model import Contract, ExecutionFilter

CLOSE = Decimal("0.000001")
STOCK = Contract(con_id=1, symbol="X", sec_type="STK", currency="USD")


def trade(account: Account, quantity: int, price: str, commission: str) -> Decimal | None:
    return account.apply(Trade(STOCK, Decimal(quantity), Decimal(price), Decimal(commission)))


def near(a: Decimal, b: Decimal) -> bool:
    return abs(a - b) < CLOSE


def test_the_average_cost_contains_the_commission() -> None:
    account = Account("DU1", "USD", {"USD": Decimal(10_000)})
    assert trade(account, 100, "50", "1") is None
    assert account.holdings[1].average_cost == Decimal("50.01")
    assert account.cash["USD"] == Decimal(10_000) - 5001


def test_a_short_sale_lowers_its_average_cost_by_the_commission() -> None:
    account = Account("DU1", "USD")
    trade(account, -100, "20", "1")
    assert account.holdings[1].average_cost == Decimal("19.99")
    assert trade(account, 100, "18", "1") == 100 * Decimal("1.99") - 1


def test_selling_through_zero_closes_first_and_opens_with_the_rest() -> None:
    account = Account("DU1", "USD")
    trade(account, 100, "50", "0")
    assert trade(account, -150, "55", "1.5") == 500 - 1
    holding = account.holdings[1]
    assert (holding.quantity, holding.average_cost) == (Decimal(-50), Decimal("54.99"))
    assert account.cash["USD"] == -5000 + 8250 - Decimal("1.5")


@given(
    st.lists(st.tuples(st.integers(-300, 300).filter(bool), st.integers(1, 20_000), st.integers(0, 500)), max_size=25)
)
def test_cash_and_value_conserve_what_was_put_in(trades: list[tuple[int, int, int]]) -> None:
    account = Account("DU1", "USD", {"USD": Decimal(1000)})
    realized = quantity = Decimal(0)
    for size, cents, fee in trades:
        realized += trade(account, size, str(Decimal(cents) / 100), str(Decimal(fee) / 100)) or 0
        quantity += size
    mark = Decimal("77.77")
    figures = account.figures(lambda _: mark, lambda _: Decimal(1))
    held = account.holdings[1].quantity if trades else Decimal(0)
    assert held == quantity
    assert near(figures.net_liquidation, account.cash["USD"] + quantity * mark)
    assert near(figures.net_liquidation, 1000 + realized + figures.unrealized)
    assert near(figures.realized, realized)


deals = st.lists(
    st.tuples(st.sampled_from([SPY, AAPL, EURUSD]), st.sampled_from(["BUY", "SELL"]), st.integers(1, 900)), max_size=12
)


@settings(max_examples=15, deadline=None)
@given(deals)
def test_positions_and_cash_are_the_sum_of_the_executions(orders: list[tuple[Contract, str, int]]) -> None:
    exchange, now = venue(), START
    for number, (contract, action, quantity) in enumerate(orders, 1):
        exchange.place(order(number, action, quantity, contract=contract), now)
        run(exchange, now, now + SECOND, timedelta(milliseconds=250))
        now += SECOND
    run(exchange, now, now + 5 * SECOND, SECOND)
    now += 5 * SECOND
    cash, positions = {"USD": Decimal(1_000_000)}, dict[int, Decimal]()
    for execution, commission in exchange.executions(ExecutionFilter()):
        signed = execution.quantity if execution.side == "BOT" else -execution.quantity
        contract = execution.contract
        assert commission is not None
        positions[contract.con_id] = positions.get(contract.con_id, Decimal(0)) + signed
        cash["USD"] -= signed * execution.price + commission.amount
        if contract.sec_type == "CASH":
            cash["EUR"] = cash.get("EUR", Decimal(0)) + signed
    assert {p.contract.con_id: p.quantity for p in exchange.positions(now)} == positions
    balances = {r.currency: r.value for r in exchange.account_values(now) if r.key == "CashBalance"}
    for currency, amount in cash.items():
        if amount:
            assert Decimal(balances[currency]) == pytest.approx(amount, abs=Decimal("0.0051"))


@pytest.fixture
def invested() -> Exchange:
    exchange = venue(partial_fills=False)
    exchange.place(order(1, quantity=1000), START)
    exchange.advance(START + SECOND)
    return exchange


def value(exchange: Exchange, key: str, currency: str = "USD") -> Decimal:
    rows = exchange.account_values(START + SECOND)
    return Decimal(next(r.value for r in rows if (r.key, r.currency) == (key, currency)))


def test_account_values_agree_with_each_other(invested: Exchange) -> None:
    liquidation, gross = value(invested, "NetLiquidation"), value(invested, "GrossPositionValue")
    assert value(invested, "TotalCashValue") + gross == liquidation
    assert value(invested, "InitMarginReq") == gross / 2
    assert value(invested, "MaintMarginReq") == gross / 4
    assert value(invested, "AvailableFunds") == liquidation - gross / 2
    assert value(invested, "BuyingPower") == 2 * value(invested, "AvailableFunds")
    assert value(invested, "CashBalance") == value(invested, "CashBalance", "BASE") == value(invested, "TotalCashValue")
    assert value(invested, "StockMarketValue") == gross
    assert {r.key for r in invested.account_values(START)} >= {"AccountCode", "AccountReady", "ExchangeRate", "Cushion"}


def test_the_summary_has_the_tags_that_were_asked_for(invested: Exchange) -> None:
    rows = invested.account_summary(["NetLiquidation", "AccountType", "Nonsense"], START)
    assert [(r.key, r.currency) for r in rows] == [("NetLiquidation", "USD"), ("AccountType", "")]
    ledger = invested.account_summary(["$LEDGER:ALL"], START)
    assert {r.currency for r in ledger} == {"BASE", "USD"}


def test_profit_of_the_day_is_what_equity_gained(invested: Exchange) -> None:
    later = START + 60 * SECOND
    pnl = invested.pnl(later)
    row = invested.positions(later)[0]
    assert pnl.daily == pnl.unrealized + pnl.realized == row.unrealized_pnl
    single = invested.pnl_single(SPY_ID, later)
    assert single.position == 1000
    assert (single.value, single.unrealized) == (row.market_value, row.unrealized_pnl)


def test_a_closed_position_stays_listed_with_its_profit_for_the_day(invested: Exchange) -> None:
    invested.place(order(2, "SELL", quantity=1000), START + SECOND)
    row = invested.positions(START + SECOND)[0]
    assert row.quantity == 0
    assert row.realized_pnl == invested.pnl(START + SECOND).realized == value(invested, "NetLiquidation") - 1_000_000
    tomorrow = START + timedelta(days=1)
    invested.advance(tomorrow)
    assert invested.positions(tomorrow) == []
    assert invested.pnl(tomorrow).realized == 0


def test_foreign_cash_is_valued_at_the_present_rate() -> None:
    exchange = venue(partial_fills=False)
    exchange.place(order(1, quantity=100_000, contract=EURUSD), START)
    rate = exchange.quote(12087792, START).last
    assert rate is not None
    rows = {
        (r.key, r.currency): Decimal(r.value)
        for r in exchange.account_values(START)
        if r.key in ("CashBalance", "ExchangeRate", "NetLiquidation")
    }
    assert rows["ExchangeRate", "EUR"] == rate
    assert rows["NetLiquidation", "USD"] == pytest.approx(
        rows["CashBalance", "USD"] + 100_000 * rate, abs=Decimal("0.011")
    )


def test_a_future_is_not_paid_for_and_its_gain_is_cash() -> None:
    """Bought 2 at 4,000 with multiplier 50 and a fee of 4: cash falls by 4, and rises by 1,000 when at 4,010."""
    future = Contract(con_id=9, symbol="ES", sec_type="FUT", currency="USD", multiplier="50")
    account = Account("DU1", "USD", {"USD": Decimal(100_000)})
    account.apply(Trade(future, Decimal(2), Decimal(4000), Decimal(4)))
    for mark, cash in ((4000, "99996.00"), (4010, "100996.00")):
        marks, rates = (lambda _, mark=mark: Decimal(mark)), (lambda _: Decimal(1))
        figures = account.figures(marks, rates)
        assert (figures.net_liquidation, figures.total_cash, figures.stock_value) == (
            Decimal(cash),
            Decimal(cash),
            Decimal(0),
        )
        said = {(row.key, row.currency): row.value for row in account_values(account, figures, marks, rates)}
        assert said["CashBalance", "USD"] == said["TotalCashBalance", "USD"] == said["TotalCashValue", "USD"] == cash
        ledger = account_summary(account, figures, marks, rates, ["$LEDGER:USD"])
        assert [row.value for row in ledger if row.key == "CashBalance"] == [cash]
    account.apply(Trade(future, Decimal(-2), Decimal(4010), Decimal(4)))
    assert account.cash["USD"] == Decimal(100_992)
