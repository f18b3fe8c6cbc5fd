"""Every kind of order that a strategy may send, through the engine to the gateway, and what the books make of it."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ib_async import Future, Stock

from portfolio.models import Execution, Position
from strategies.exceptions import OrderDeniedError
from tests.e2e.engine.harness import Rig, ledger_executions, position, until
from trading.gateway.model import Contract
from trading.market.recorder import wanted_instruments
from trading.models import Order
from trading.risk_models import RiskLimit

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

SPY, AAPL = Stock("SPY", "SMART", "USD"), Stock("AAPL", "SMART", "USD")
SPY_ID = 756733
FAR = datetime(2099, 12, 31, 12, 30, tzinfo=UTC)


@pytest.fixture
def alpha(rig: Rig) -> Any:
    """A running strategy."""
    rig.strategy("ALPHA")
    return rig.start(rig.engine(), "ALPHA")


def price_of(rig: Rig, con_id: int = SPY_ID) -> float:
    venue = rig.gateway.venue
    return rig.gateway.call(lambda: float(venue._market.mark(con_id, venue._begun())))


def placed(rig: Rig, strategy: Any, quantity: int, kind: str, **terms: Any) -> Any:
    """Place one order on the strategy's own loop."""
    return rig.on_loop(strategy, strategy.place_order(SPY, quantity, kind, algo=False, **terms))


def state_of(ticket: Any) -> tuple[str, Decimal]:
    row = Order.objects.get(order_ref=ticket.order_ref)
    return str(row.state), row.filled


def ends(ticket: Any, state: str, filled: int | None = None) -> None:
    """Wait for how the books say that an order ended, and the strategy's ticket with them."""
    until(lambda: state_of(ticket)[0] == state, what=f"{ticket} in the books: {state}")
    until(lambda: ticket.is_done and str(ticket.state) == state, what=f"{ticket} ends")
    if filled is not None:
        assert state_of(ticket)[1] == ticket.filled == filled


def test_resting_orders_of_every_type_are_on_record_as_ib_works_them(rig: Rig, alpha: Any) -> None:
    price = price_of(rig)
    low, high = round(price * 0.5, 2), round(price * 2, 2)
    wanted: list[tuple[int, str, dict[str, Any]]] = [
        (1, "STP LMT", {"stop": high, "limit": high + 1}),
        (2, "MIT", {"stop": low}),
        (3, "LIT", {"stop": low, "limit": low - 1}),
        (-4, "TRAIL", {"trail": 150, "stop": low}),
        (-5, "TRAIL", {"trail_percent": 40}),
        (-6, "TRAIL LIMIT", {"trail": 150, "limit_offset": 0.5, "stop": low}),
        (7, "LMT", {"limit": low, "tif": "GTD", "good_till": FAR}),
        (8, "MKT", {"good_after": FAR, "tif": "GTC"}),
        (9, "LMT", {"limit": low, "good_after": FAR, "tif": "GTC"}),
    ]
    tickets = [placed(rig, alpha, quantity, kind, **terms) for quantity, kind, terms in wanted]
    refs = [ticket.order_ref for ticket in tickets]
    until(lambda: Order.objects.filter(order_ref__in=refs, state="accepted").count() == len(refs), what="all work")
    for ticket, (quantity, kind, terms) in zip(tickets, wanted, strict=True):
        row = Order.objects.get(order_ref=ticket.order_ref)
        assert [row.order_type, row.quantity, row.side] == [kind, abs(quantity), "BUY" if quantity > 0 else "SELL"]
        names = {"limit": "limit_price", "stop": "stop_price", "trail": "trail_amount"}
        for name, value in terms.items():
            kept = getattr(row, names.get(name, name))
            if kind.startswith("TRAIL") and name == "stop":  # it follows the price
                assert kept >= Decimal(str(low))
            else:
                assert kept == (Decimal(str(value)) if isinstance(value, int | float) else value), (kind, name)
    rig.on_loop(alpha, alpha.modify_order(tickets[4], trail_percent=45))
    until(lambda: Order.objects.get(order_ref=refs[4]).trail_percent == 45, what="IB took the percentage")
    rig.on_loop(alpha, alpha.modify_order(tickets[4], quantity=4))  # with what it trails by now, not with what it did
    until(lambda: Order.objects.get(order_ref=refs[4]).quantity == 4, what="IB took the size")
    assert Order.objects.get(order_ref=refs[4]).trail_percent == 45
    rig.on_loop(alpha, alpha.modify_order(tickets[0], stop=high + 1, limit=high + 2))
    until(lambda: Order.objects.get(order_ref=refs[0]).limit_price == Decimal(str(high + 2)), what="and both prices")
    rig.on_loop(alpha, alpha.cancel_orders())
    for ticket in tickets:
        ends(ticket, "cancelled", 0)
    rig.assert_books_equal_broker()


def test_triggered_and_timed_orders_fill_and_end_as_ib_says(rig: Rig, alpha: Any) -> None:
    price = price_of(rig)
    low, high = round(price * 0.5, 2), round(price * 2, 2)
    soon = datetime.now(UTC) + timedelta(seconds=2)
    begins = placed(rig, alpha, 3, "MKT", good_after=soon, tif="GTC")
    passes = placed(rig, alpha, 3, "LMT", limit=low, tif="GTD", good_till=datetime.now(UTC) + timedelta(seconds=3))
    ends(placed(rig, alpha, 2700, "MKT", tif="FOK"), "cancelled", 0)
    ends(placed(rig, alpha, 10, "MKT", tif="FOK"), "filled", 10)
    part = placed(rig, alpha, 2700, "MKT", tif="IOC")
    ends(part, "cancelled")
    assert 0 < part.filled < 2700
    ends(placed(rig, alpha, 2, "STP LMT", stop=low, limit=high), "filled", 2)  # its stop is touched already
    ends(placed(rig, alpha, 2, "MIT", stop=high), "filled", 2)
    ends(placed(rig, alpha, 2, "LIT", stop=high, limit=high), "filled", 2)
    ends(placed(rig, alpha, -5, "TRAIL", trail=0.05), "filled", 5)
    ends(placed(rig, alpha, -5, "TRAIL LIMIT", trail=0.05, limit_offset=5, stop=round(price - 0.05, 2)), "filled", 5)
    ends(begins, "filled", 3)
    assert Execution.objects.get(order_ref=begins.order_ref).executed_at >= soon.replace(microsecond=0)
    ends(passes, "cancelled", 0)
    assert position("ALPHA", "SPY") == part.filled + 9
    rig.assert_books_equal_broker()


def test_orders_on_close_wait_for_the_auction(rig: Rig, alpha: Any) -> None:
    venue = rig.gateway.venue
    market = placed(rig, alpha, 20, "MOC")
    limit = placed(rig, alpha, 10, "LOC", limit=1.0)
    refs = [market.order_ref, limit.order_ref]
    settled = ("accepted", "rejected", "cancelled")
    until(lambda: Order.objects.filter(order_ref__in=refs, state__in=settled).count() == 2, what="IB answered")
    if state_of(market)[0] != "accepted":
        pytest.skip("within ten minutes of the close IB takes none")

    def close() -> None:
        now_us = int(datetime.now(UTC).timestamp() * 1_000_000)
        for order in venue._state.working.values():
            order.auction_us = now_us

    rig.gateway.call(close)
    ends(market, "filled", 20)
    ends(limit, "cancelled", 0)
    rig.assert_books_equal_broker()


def test_example_of_the_documentation_runs_as_it_stands(rig: Rig) -> None:
    page = (Path(__file__).parents[3] / "docs" / "strategies.md").read_text(encoding="utf-8")
    [code] = [block.split("```")[0] for block in page.split("```python\n") if "place_bracket(" in block.split("```")[0]]
    heading = (
        "from datetime import timedelta\nfrom decimal import Decimal\nfrom ib_async import Stock\n"
        "from strategies.base import BaseStrategy\n\nclass Example(BaseStrategy):\n"
        "    async def initialize_strategy(self):\n        pass\n"
    )
    rig.strategy("EXAMPLE", heading + textwrap.indent(code, "    "))
    rig.start(rig.engine(), "EXAMPLE")

    def kinds() -> list[tuple[str, str]]:
        return sorted(Order.objects.filter(owner="EXAMPLE").values_list("order_type", "state"))

    works = [("LMT", "accepted")] * 3 + [("MKT", "filled"), ("STP", "accepted"), ("TRAIL", "accepted")]
    until(lambda: kinds() == works, what=f"what the example says: {kinds()}")
    dip = Order.objects.get(owner="EXAMPLE", tif="GTD")
    assert dip.good_till is not None
    assert dip.good_after == dip.good_till - timedelta(hours=1)


def bracket(rig: Rig, strategy: Any, quantity: int, **exits: float) -> list[Any]:
    """Enter at market with exits that work."""
    tickets: list[Any] = rig.on_loop(strategy, strategy.place_bracket(SPY, quantity, **exits))
    ends(tickets[0], "filled", abs(quantity))
    refs = [ticket.order_ref for ticket in tickets[1:]]
    until(lambda: Order.objects.filter(order_ref__in=refs, state="accepted").count() == len(refs), what="exits work")
    return tickets


@pytest.mark.parametrize("quantity", [10, -10])
def test_one_exit_of_a_bracket_fills_and_the_other_goes(rig: Rig, alpha: Any, quantity: int) -> None:
    price = price_of(rig)
    above, below = round(price + 50, 2), round(price - 50, 2)
    exits = {"take_profit": above, "stop_loss": below} if quantity > 0 else {"take_profit": below, "stop_loss": above}
    away = 60 if quantity > 0 else -60

    _, profit, stop = bracket(rig, alpha, quantity, **exits)
    rig.on_loop(alpha, alpha.modify_order(profit, limit=round(price - away, 2)))  # through the market: taken
    ends(profit, "filled", 10)
    ends(stop, "cancelled", 0)
    assert position("ALPHA", "SPY") == 0

    _, profit, stop = bracket(rig, alpha, quantity, **exits)
    rig.on_loop(alpha, alpha.modify_order(stop, stop=round(price + away, 2)))  # beyond the market: triggered
    ends(stop, "filled", 10)
    ends(profit, "cancelled", 0)
    assert position("ALPHA", "SPY") == 0
    rig.assert_books_equal_broker()


def test_trailing_exit_and_one_cancels_the_other_leave_once(rig: Rig, alpha: Any) -> None:
    price = price_of(rig)
    tickets: list[Any] = rig.on_loop(alpha, alpha.place_bracket(SPY, 10, take_profit=round(price + 90, 2), trail=0.05))
    ends(tickets[2], "filled", 10)
    ends(tickets[1], "cancelled", 0)
    assert position("ALPHA", "SPY") == 0

    rest = {"contract": SPY, "quantity": 5, "limit": round(price * 0.5, 2)}
    pair: list[Any] = rig.on_loop(alpha, alpha.place_oco([rest, {**rest, "contract": AAPL, "limit": 9000.0}]))
    ends(pair[1], "filled", 5)
    ends(pair[0], "cancelled", 0)
    assert [position("ALPHA", "SPY"), position("ALPHA", "AAPL")] == [0, 5]
    rig.assert_books_equal_broker()


# -- combinations


def months(rig: Rig) -> tuple[Any, Any]:
    """The nearest two listed months of the micro S&P future."""
    asked = Contract(symbol="MES", sec_type="FUT", exchange="CME")
    listed = sorted(
        (row.contract for row in rig.gateway.call(lambda: rig.gateway.venue.resolve(asked))),
        key=lambda one: one.last_trade_date,
    )
    near, far = listed[1], listed[2]
    return tuple(Future("MES", one.last_trade_date, "CME", currency="USD") for one in (near, far))  # type: ignore[return-value]


def held() -> dict[int, Decimal]:
    return {
        con_id: quantity for con_id, quantity in Position.objects.values_list("instrument_id", "quantity") if quantity
    }


def enter(rig: Rig, strategy: Any, contract: Any, quantity: int) -> int:
    """Hold so much of a contract; return its id."""
    ticket = rig.on_loop(strategy, strategy.place_order(contract, quantity, algo=False))
    ends(ticket, "filled", abs(quantity))
    return int(ticket.contract.conId)


def test_a_future_is_rolled_long_and_short_and_booked_by_its_legs(rig: Rig, alpha: Any) -> None:
    near, far = months(rig)
    for quantity in (2, -2):
        old = enter(rig, alpha, near, quantity)
        ends(rig.on_loop(alpha, alpha.roll_future(near, far, 1)), "filled", 1)
        ends(rig.on_loop(alpha, alpha.roll_future(near, far)), "filled", 1)
        until(lambda old=old: old not in held(), what="the old month is left")  # type: ignore[misc]
        assert list(held().values()) == [quantity]
        with pytest.raises(OrderDeniedError) as caught:
            rig.on_loop(alpha, alpha.roll_future(near, far))
        assert caught.value.code == "nothing_to_roll"
        until(lambda: rig.broker_executions() == ledger_executions(), what="legs are booked")
        enter(rig, alpha, far, -quantity)
        assert held() == {}
        rig.assert_books_equal_broker()  # flat: what is open on futures stands in the gateway's cash


def test_a_combination_counts_by_its_legs_and_is_limited_by_each(rig: Rig, alpha: Any) -> None:
    pair = [(SPY, 1), (AAPL, -2)]
    whole = rig.on_loop(alpha, alpha.place_combo(pair, 10))
    ends(whole, "filled", 10)
    until(lambda: [position("ALPHA", "SPY"), position("ALPHA", "AAPL")] == [10, -20], what="legs are booked")
    row = Order.objects.get(order_ref=whole.order_ref)
    assert "BAG" not in {wanted.sec_type for wanted in wanted_instruments()}, "a combination is no market data line"
    assert (row.sec_type, Execution.objects.filter(order_ref=whole.order_ref).count()) == ("BAG", 2)

    resting = rig.on_loop(alpha, alpha.place_combo(pair, 3, "LMT", limit=-5000))
    until(lambda: state_of(resting)[0] == "accepted")
    rig.on_loop(alpha, alpha.modify_order(resting, limit=-4999.5))
    until(lambda: Order.objects.get(order_ref=resting.order_ref).limit_price == Decimal("-4999.5"), what="changed")
    limit(rig, "order_quantity", 15)
    with pytest.raises(OrderDeniedError) as caught:  # 8 SPY would pass, 16 AAPL do not
        rig.on_loop(alpha, alpha.place_combo(pair, 8))
    assert caught.value.code == "order_quantity"
    rig.on_loop(alpha, alpha.cancel_orders())
    ends(resting, "cancelled", 0)
    rig.assert_books_equal_broker()


def limit(rig: Rig, name: str, value: float) -> None:
    """Narrow one of the account's limits and have the engine read it."""
    RiskLimit.objects.filter(name=name).update(value=Decimal(str(value)))
    rig.engines[0].risk.reload()
