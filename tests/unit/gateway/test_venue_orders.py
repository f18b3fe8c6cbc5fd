"""Orders at the paper venue: what a client sees of them, in order, with IB's codes."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.unit.gateway.venue_desk import (
    AAPL,
    EURUSD,
    MS,
    SECOND,
    SPY,
    SPY_ID,
    START,
    changed,
    codes,
    commissions,
    executed,
    only,
    order,
    run,
    statuses,
    venue,
)
from trading.gateway.exchange import Exchange, VenueOptions, build_venue
from trading.gateway.model import (
    AccountChanged,
    Contract,
    Executed,
    ExecutionFilter,
    OrderChanged,
    OrderError,
    OrderWhatIf,
    PositionChanged,
    RequestError,
)


@pytest.fixture
def exchange() -> Exchange:
    return venue()


def last(exchange: Exchange, now: datetime = START) -> Decimal:
    price = exchange.quote(SPY_ID, now).last
    assert price is not None
    return price


def test_a_market_order_is_presubmitted_then_executed_then_filled(exchange: Exchange) -> None:
    ask = exchange.quote(SPY_ID, START).ask
    events = exchange.place(order(1, order_ref="A/1"), START)
    assert [type(e) for e in events] == [OrderChanged, Executed, OrderChanged, PositionChanged, AccountChanged]
    assert statuses(events) == ["PreSubmitted", "Filled"]
    execution = only(Executed, events)[0].execution
    assert (execution.side, execution.order_ref) == ("BOT", "A/1")
    assert execution.quantity == 100
    assert execution.price == ask
    assert execution.exec_id.count(".") == 3
    assert exchange.open_orders() == []


def test_a_sale_gets_the_bid(exchange: Exchange) -> None:
    bid = exchange.quote(SPY_ID, START).bid
    assert only(Executed, exchange.place(order(1, "SELL"), START))[0].execution.price == bid


def test_the_commission_follows_when_its_time_has_come(exchange: Exchange) -> None:
    exchange.place(order(1), START)
    assert exchange.executions(ExecutionFilter())[0][1] is None
    assert commissions(exchange.advance(START + 49 * MS)) == []
    told = commissions(exchange.advance(START + 50 * MS))
    assert [(c.commission.amount, c.commission.realized_pnl) for c in told] == [(Decimal("1.00"), None)]
    assert commissions(exchange.advance(START + SECOND)) == []
    assert exchange.executions(ExecutionFilter())[0][1] == told[0].commission


def test_closing_reports_realised_profit_with_both_commissions(exchange: Exchange) -> None:
    bought = only(Executed, exchange.place(order(1), START))[0].execution.price
    later = START + 30 * SECOND
    sold = only(Executed, exchange.place(order(2, "SELL"), later))[0].execution.price
    told = commissions(exchange.advance(later + SECOND))
    assert told[-1].commission.realized_pnl == (sold - bought) * 100 - 2


def test_a_large_order_fills_in_pieces_that_the_market_can_bear(exchange: Exchange) -> None:
    events = exchange.place(order(1, quantity=5000), START)
    assert 0 < executed(events) < 5000
    events += run(exchange, START, START + 10 * SECOND)
    fills = [e.execution for e in only(Executed, events)]
    assert executed(events) == 5000
    assert len(fills) > 1
    assert [f.cum_quantity for f in fills] == [sum(f.quantity for f in fills[: i + 1]) for i in range(len(fills))]
    assert statuses(events) == ["PreSubmitted", "Submitted", "Filled"]
    assert sum(c.commission.amount for c in commissions(events)) == Decimal("25.000")
    assert len({f.exec_id for f in fills}) == len(fills)


def test_without_partial_fills_the_whole_order_fills_at_once() -> None:
    exchange = venue(partial_fills=False)
    assert executed(exchange.place(order(1, quantity=5000), START)) == 5000


def test_a_limit_order_waits_for_its_price_and_gets_it_or_better(exchange: Exchange) -> None:
    limit = last(exchange) - Decimal("0.05")
    events = exchange.place(order(1, order_type="LMT", limit_price=limit), START)
    assert statuses(events) == ["PreSubmitted", "Submitted"]
    events = run(exchange, START, START + 300 * SECOND)
    fills = only(Executed, events)
    assert fills
    assert all(f.execution.price <= limit for f in fills)
    assert statuses(events) == ["Filled"]


def test_a_marketable_limit_order_pays_the_quote_not_the_limit(exchange: Exchange) -> None:
    ask = exchange.quote(SPY_ID, START).ask
    events = exchange.place(order(1, order_type="LMT", limit_price=last(exchange) + 1), START)
    assert only(Executed, events)[0].execution.price == ask


def test_a_stop_stays_presubmitted_until_its_price_trades(exchange: Exchange) -> None:
    stop = last(exchange) - Decimal("0.10")
    events = exchange.place(order(1, "SELL", order_type="STP", aux_price=stop), START)
    assert statuses(events) == ["PreSubmitted"]
    events = run(exchange, START, START + 600 * SECOND)
    fills = only(Executed, events)
    assert fills
    assert fills[0].execution.price <= stop
    assert statuses(events)[-1] == "Filled"


def test_the_past_of_the_market_does_not_fill_a_new_order(exchange: Exchange) -> None:
    now = START
    for order_id in range(1, 40):
        exchange.advance(now)
        now += 700 * MS
        quote = exchange.quote(SPY_ID, now)
        assert quote.ask is not None
        limit = quote.ask - Decimal("0.01")
        events = exchange.place(order(order_id, quantity=1, order_type="LMT", limit_price=limit), now)
        assert executed(events) == 0
        exchange.cancel(1, order_id, now)


def test_a_cancel_is_cancelled_and_202(exchange: Exchange) -> None:
    exchange.place(order(1, order_type="LMT", limit_price="1.00"), START)
    events = exchange.cancel(1, 1, START)
    assert statuses(events) == ["Cancelled"]
    assert [(e.code, e.text) for e in only(OrderError, events)] == [(202, "Order Canceled - reason:")]
    assert exchange.open_orders() == []
    assert [o.status for o in exchange.completed_orders(api_only=True)] == ["Cancelled"]


def test_cancelling_what_is_not_there_or_done_says_so(exchange: Exchange) -> None:
    exchange.place(order(1), START)
    unknown, filled, foreign = exchange.cancel(1, 9, START), exchange.cancel(1, 1, START), exchange.cancel(2, 1, START)
    assert codes(unknown) == codes(foreign) == [10147]
    assert only(OrderError, unknown)[0].text == "OrderId 9 that needs to be cancelled is not found."
    assert codes(filled) == [10148]
    assert only(OrderError, filled)[0].text.endswith("cannot be cancelled, state: Filled.")


def test_global_cancel_ends_every_clients_orders(exchange: Exchange) -> None:
    for client in (1, 2):
        exchange.place(order(1, client_id=client, order_type="LMT", limit_price="1.00"), START)
    events = exchange.global_cancel(START)
    assert codes(events) == [202, 202]
    assert {e.client_id for e in only(OrderError, events)} == {1, 2}
    assert exchange.open_orders() == []


def test_a_modification_keeps_the_order_and_its_perm_id(exchange: Exchange) -> None:
    request = order(1, order_type="LMT", limit_price="1.00")
    first = only(OrderChanged, exchange.place(request, START))[0].order
    events = exchange.place(changed(request, quantity=Decimal(50), limit_price=Decimal("2.00")), START)
    working = exchange.open_orders(1)
    assert [o.perm_id for o in working] == [first.perm_id]
    assert (working[0].request.quantity, working[0].request.limit_price) == (Decimal(50), Decimal(2))
    assert codes(events) == []
    assert exchange.received_order_refs.total() == 1


def test_a_modification_to_a_marketable_price_fills_at_once(exchange: Exchange) -> None:
    request = order(1, order_type="LMT", limit_price="1.00")
    exchange.place(request, START)
    events = exchange.place(changed(request, limit_price=last(exchange) + 1), START + SECOND)
    assert statuses(events)[-1] == "Filled"


@pytest.mark.parametrize(
    ("difference", "code"),
    [({"action": "SELL"}, 105), ({"contract": AAPL}, 105), ({"order_type": "MKT"}, 329)],
    ids=["side", "contract", "type"],
)
def test_a_modification_that_does_not_match_is_refused_and_changes_nothing(
    exchange: Exchange, difference: dict[str, object], code: int
) -> None:
    request = order(1, order_type="LMT", limit_price="1.00")
    exchange.place(request, START)
    before = exchange.open_orders()
    assert codes(exchange.place(changed(request, **difference), START)) == [code]
    assert exchange.open_orders() == before


def test_modifying_a_filled_order_is_104(exchange: Exchange) -> None:
    exchange.place(order(1), START)
    assert codes(exchange.place(order(1, quantity=200), START)) == [104]


def test_a_bad_modification_leaves_the_order_working(exchange: Exchange) -> None:
    request = order(1, order_type="LMT", limit_price="1.00")
    exchange.place(request, START)
    assert codes(exchange.place(changed(request, limit_price=Decimal("1.001")), START)) == [110]
    assert [o.request.limit_price for o in exchange.open_orders()] == [Decimal("1.00")]


def test_order_ids_only_grow_and_each_client_has_its_own(exchange: Exchange) -> None:
    exchange.place(order(7), START)
    assert (exchange.next_order_id(1), exchange.next_order_id(2)) == (8, 1)
    assert codes(exchange.place(order(3), START)) == [103]
    exchange.place(order(9, order_type="LMT", limit_price="1.00"), START)
    exchange.cancel(1, 9, START)
    assert codes(exchange.place(order(9), START)) == [103]
    assert codes(exchange.place(order(7, client_id=2), START)) == []


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"quantity": 0}, 434),
        ({"quantity": "1.5"}, 10243),
        ({"quantity": -5}, 321),
        ({"action": "HOLD"}, 321),
        ({"order_type": "REL"}, 387),
        ({"order_type": "LMT"}, 321),
        ({"order_type": "LMT", "limit_price": "100.001"}, 110),
        ({"order_type": "LMT", "limit_price": "0"}, 321),
        ({"order_type": "STP"}, 321),
        ({"order_type": "STP", "aux_price": "100.001"}, 110),
        ({"tif": "GTX"}, 321),
        ({"account": "U999"}, 321),
        ({"parent_id": 77}, 135),
        ({"contract": Contract(symbol="NOPE", sec_type="STK", exchange="SMART", currency="USD")}, 200),
        ({"contract": Contract(symbol="SHOP", sec_type="STK", exchange="SMART")}, 200),
        ({"contract": Contract(symbol="SPY", sec_type="STK", currency="USD")}, 321),
        ({"contract": Contract(symbol="SPX", sec_type="IND", exchange="CBOE", currency="USD")}, 203),
        ({"algo_strategy": "Twap"}, 439),
        ({"algo_strategy": "Adaptive"}, 441),
        ({"algo_strategy": "Adaptive", "algo_params": (("adaptivePriority", "Lazy"),)}, 441),
        ({"algo_strategy": "Adaptive", "algo_params": (("speed", "9"),)}, 443),
        (
            {
                "algo_strategy": "Adaptive",
                "algo_params": (("adaptivePriority", "Patient"),),
                "order_type": "STP",
                "aux_price": "1.00",
            },
            442,
        ),
    ],
)
def test_what_ib_refuses_is_refused_with_its_code_and_leaves_nothing(
    exchange: Exchange, fields: dict[str, object], code: int
) -> None:
    events = exchange.place(order(1, **fields), START)  # type: ignore[arg-type]
    assert codes(events) == [code]
    assert len(events) == 1
    assert exchange.open_orders() == exchange.completed_orders(api_only=False) == []
    assert exchange.next_order_id(1) == 2


def test_adaptive_is_worked_and_echoed(exchange: Exchange) -> None:
    algo: dict[str, Any] = {"algo_strategy": "Adaptive", "algo_params": (("adaptivePriority", "Patient"),)}
    snapshot = only(OrderChanged, exchange.place(order(1, **algo), START))[-1].order
    assert snapshot.status == "Filled"
    assert (snapshot.request.algo_strategy, snapshot.request.algo_params) == tuple(algo.values())


def test_an_order_beyond_the_margin_is_refused_with_ibs_text(exchange: Exchange) -> None:
    events = exchange.place(order(1, quantity=10_000), START)
    assert codes(events) == [201]
    assert "EQUITY WITH LOAN VALUE" in only(OrderError, events)[0].text
    assert statuses(events) == ["Inactive"]
    assert executed(events) == 0


def test_closing_is_allowed_whatever_the_margin_says() -> None:
    exchange = venue(cash=Decimal(17_000), partial_fills=False)
    assert executed(exchange.place(order(1, quantity=100), START)) == 100
    assert codes(exchange.place(order(2, quantity=100), START)) == [201]
    assert executed(exchange.place(order(3, "SELL", quantity=100), START)) == 100


def test_what_if_tells_margin_and_commission_and_does_nothing(exchange: Exchange) -> None:
    events = exchange.place(order(1, what_if=True), START)
    impact = only(OrderWhatIf, events)[0].what_if
    assert len(events) == 1
    assert impact.init_margin_change == 50 * last(exchange)
    assert impact.maint_margin_change == 25 * last(exchange)
    assert impact.commission == 1
    assert (exchange.open_orders(), exchange.executions(ExecutionFilter())) == ([], [])
    assert exchange.received_order_refs.total() == 0
    assert executed(exchange.place(order(1), START)) == 100


def test_forex_moves_both_currencies(exchange: Exchange) -> None:
    exchange.place(order(1, quantity=50_000, contract=EURUSD), START)
    price = exchange.executions(ExecutionFilter())[0][0].price
    cash = {r.currency: Decimal(r.value) for r in exchange.account_values(START) if r.key == "CashBalance"}
    assert cash["EUR"] == 50_000
    assert cash["USD"] == round(1_000_000 - 50_000 * price - 2, 2)


def test_a_small_forex_order_is_warned_about_and_lives(exchange: Exchange) -> None:
    events = exchange.place(order(1, quantity=1000, contract=EURUSD), START)
    assert codes(events) == [399]
    assert executed(events) == 1000


def test_executions_are_filtered_as_asked(exchange: Exchange) -> None:
    exchange.place(order(1), START)
    exchange.place(order(1, "SELL", client_id=2, contract=AAPL), START + SECOND)

    def found(**fields: object) -> list[str]:
        wanted = ExecutionFilter(**fields)  # type: ignore[arg-type]
        return [execution.contract.symbol for execution, _ in exchange.executions(wanted)]

    assert found() == ["SPY", "AAPL"]
    assert found(client_id=2) == found(side="SELL") == found(symbol="AAPL") == found(since=START + SECOND) == ["AAPL"]
    assert found(side="BUY") == found(exchange="SMART", symbol="SPY") == ["SPY"]
    assert found(account="U1") == found(sec_type="CASH") == []


def test_received_order_refs_count_every_new_order_once(exchange: Exchange) -> None:
    exchange.place(order(1, order_ref="A/1"), START)
    exchange.place(order(2, order_ref="A/1"), START)
    exchange.place(order(3, order_ref="B/1", quantity=0), START)
    exchange.place(order(3, order_ref="B/1"), START)
    assert exchange.received_order_refs == {"A/1": 2, "B/1": 1}


def test_a_day_order_ends_with_its_day_and_gtc_goes_on(exchange: Exchange) -> None:
    exchange.place(order(1, order_type="LMT", limit_price="1.00"), START)
    exchange.place(order(2, order_type="LMT", limit_price="1.00", tif="GTC"), START)
    events = exchange.advance(START + timedelta(days=1))
    assert statuses(events) == ["Cancelled"]
    assert codes(events) == [202]
    assert [o.request.order_id for o in exchange.open_orders()] == [2]


def test_executions_of_yesterday_are_gone_and_positions_stay(exchange: Exchange) -> None:
    exchange.place(order(1), START)
    exchange.advance(START + SECOND)
    tomorrow = START + timedelta(days=1)
    exchange.advance(tomorrow)
    assert exchange.executions(ExecutionFilter()) == []
    assert exchange.completed_orders(api_only=False) == []
    assert [p.quantity for p in exchange.positions(tomorrow)] == [100]


class TestExchangeHours:
    NIGHT = START.replace(hour=3, minute=0, second=0)
    OPEN = START.replace(hour=14, minute=30, second=0)

    @pytest.fixture
    def exchange(self) -> Exchange:
        exchange = venue(hours="exchange", speed=1)
        exchange.advance(self.NIGHT)
        return exchange

    def test_an_order_sleeps_until_the_open_and_says_so(self, exchange: Exchange) -> None:
        events = exchange.place(order(1), self.NIGHT)
        assert statuses(events) == ["PreSubmitted"]
        assert codes(events) == [399]
        assert "will not be placed at the exchange until 2026-11-18 09:30:00" in only(OrderError, events)[0].text
        assert executed(run(exchange, self.NIGHT, self.OPEN - SECOND, timedelta(hours=1))) == 0
        assert statuses(exchange.advance(self.OPEN)) == ["Filled"]

    def test_outside_regular_hours_it_wakes_when_the_early_session_does(self, exchange: Exchange) -> None:
        exchange.place(order(1, outside_rth=True, order_type="LMT", limit_price="900.00"), self.NIGHT)
        assert executed(exchange.advance(START.replace(hour=8, minute=59))) == 0
        assert executed(exchange.advance(START.replace(hour=9, minute=1))) == 100

    def test_a_day_order_ends_at_the_close(self, exchange: Exchange) -> None:
        exchange.place(order(1, order_type="LMT", limit_price="1.00"), self.NIGHT)
        assert exchange.advance(START.replace(hour=20, minute=59)) != []
        assert statuses(exchange.advance(START.replace(hour=21, minute=0))) == ["Cancelled"]

    def test_a_market_order_gets_the_opening_quote(self, exchange: Exchange) -> None:
        exchange.place(order(1), self.NIGHT)
        run(exchange, self.NIGHT, self.OPEN - SECOND, timedelta(hours=1))
        ask = exchange.quote(SPY_ID, self.OPEN).ask
        assert only(Executed, exchange.advance(self.OPEN + SECOND))[0].execution.price == ask

    def test_what_happened_while_it_slept_does_not_trigger_a_stop(self, tmp_path: Path) -> None:
        """The stop lies just below the early session's low, so that only prices of the session proper reach it."""
        exchange = venue(hours="exchange", speed=1, state_file=tmp_path / "state.json")
        early = exchange.bars(
            SPY_ID, end=self.OPEN, duration="6 D", bar_size="30 mins", what="TRADES", use_rth=False, now=self.OPEN
        )
        opening = exchange.quote(SPY_ID, self.OPEN + SECOND).last
        assert opening is not None
        today = [b.low for b in early if b.start > self.NIGHT]
        stop = min(opening - Decimal("0.20"), max(today))
        assert min(today) < stop < opening
        exchange.place(order(1, "SELL", order_type="STP", aux_price=stop), self.NIGHT)
        assert executed(run(exchange, self.NIGHT, self.OPEN, timedelta(minutes=30))) == 0
        again = build_venue(VenueOptions(hours="exchange", speed=1, state_file=tmp_path / "state.json"))
        assert executed(again.advance(self.OPEN + SECOND)) == 0

    def test_day_figures_begin_with_the_first_trade(self, exchange: Exchange) -> None:
        quote = exchange.quote(SPY_ID, self.OPEN.replace(hour=6))
        assert (quote.open, quote.high, quote.low, quote.volume) == (None, None, None, Decimal(0))
        day = exchange.bars(
            SPY_ID, end=self.OPEN, duration="1 D", bar_size="1 day", what="TRADES", use_rth=False, now=self.OPEN
        )[-1]
        quote = exchange.quote(SPY_ID, self.OPEN)
        assert (quote.open, quote.high, quote.low, quote.volume) == (day.open, day.high, day.low, day.volume)


class TestBrackets:
    def test_orders_that_are_not_transmitted_are_invisible_until_the_last_child(self, exchange: Exchange) -> None:
        price = last(exchange)
        assert exchange.place(order(1, transmit=False), START) == []
        target = order(2, "SELL", parent_id=1, transmit=False, order_type="LMT", limit_price=price + 50)
        assert exchange.place(target, START) == []
        assert exchange.open_orders() == []
        stop = order(3, "SELL", parent_id=1, order_type="STP", aux_price=price - 50)
        events = exchange.place(stop, START)
        assert executed(events) == 100
        assert {o.request.order_id for o in exchange.open_orders()} == {2, 3}

    def test_children_wait_for_the_parent_and_one_filled_child_ends_the_other(self, exchange: Exchange) -> None:
        price = last(exchange)
        exchange.place(order(1, order_type="LMT", limit_price=price - Decimal("0.05"), transmit=False), START)
        exchange.place(order(2, "SELL", parent_id=1, transmit=False, order_type="LMT", limit_price=price - 10), START)
        events = exchange.place(order(3, "SELL", parent_id=1, order_type="STP", aux_price=price - 100), START)
        assert executed(events) == 0
        events = run(exchange, START, START + 300 * SECOND)
        by_id = {o.request.order_id: o.status for o in exchange.completed_orders(api_only=False)}
        assert by_id == {1: "Filled", 2: "Filled", 3: "Cancelled"}
        assert [e.execution.order_id for e in only(Executed, events)] == [1, 2]

    def test_cancelling_the_parent_cancels_its_children(self, exchange: Exchange) -> None:
        exchange.place(order(1, order_type="LMT", limit_price="1.00", transmit=False), START)
        exchange.place(order(2, "SELL", parent_id=1, order_type="LMT", limit_price="900.00"), START)
        assert codes(exchange.cancel(1, 1, START)) == [202, 202]
        assert exchange.open_orders() == []


def test_an_unresolved_contract_in_a_query_is_an_error_of_the_request(exchange: Exchange) -> None:
    with pytest.raises(RequestError) as refused:
        exchange.resolve(Contract(symbol="SPY"))
    assert refused.value.code == 321
    assert exchange.resolve(SPY)[0].contract.con_id == SPY_ID
