"""Whatever orders come, in whatever families: executions, positions, cash and what clients are told agree."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.gateway.test_venue_combos import PAIR, PAIR_LEGS
from tests.unit.gateway.venue_desk import SECOND, SPY, START, last_price, only, order, venue
from trading.gateway.exchange import Exchange
from trading.gateway.model import CommissionReported, Executed, OrderChanged, OrderRequest, VenueEvent

D = Decimal
TYPES = ("MKT", "LMT", "STP", "STP LMT", "MIT", "LIT", "TRAIL", "TRAIL LIMIT", "BAG")
plans = st.lists(
    st.tuples(
        st.sampled_from(TYPES),
        st.sampled_from(["BUY", "SELL"]),
        st.integers(1, 2500),
        st.integers(-30, 30),  # cents from the last price
        st.sampled_from(["DAY", "GTC", "IOC", "FOK"]),
        st.sampled_from(["", "a", "b"]),
        st.integers(1, 3),
        st.booleans(),  # a child of the order before
    ),
    min_size=1,
    max_size=10,
)


def request_of(number: int, plan: tuple[Any, ...], price: Decimal) -> OrderRequest:
    """The order of one line of a plan."""
    kind, action, quantity, cents, tif, group, group_type, child = plan
    at = price + D(cents) / 100
    fields: dict[str, Any] = {"order_type": kind, "limit_price": at, "aux_price": at, "contract": SPY}
    if kind.startswith("TRAIL"):
        fields = {"order_type": kind, "aux_price": "0.10", "contract": SPY, "lmtPriceOffset": "0.05"}
    if kind == "BAG":
        fields = {"order_type": "MKT", "contract": PAIR, "comboLegs": PAIR_LEGS}
    if kind not in ("MKT", "LMT"):
        tif = "GTC"
    parent = {"parent_id": number - 1} if child and number > 1 else {}
    return order(number, action, quantity, tif=tif, oca_group=group, ocaType=group_type, **parent, **fields)


def played(plan: list[tuple[Any, ...]]) -> tuple[Exchange, list[VenueEvent]]:
    """A venue after a plan, and all that it said."""
    exchange = venue(cash=100_000_000)
    events: list[VenueEvent] = []
    now = START
    for number, line in enumerate(plan, start=1):
        events += exchange.place(request_of(number, line, last_price(exchange, now)), now)
        now += 3 * SECOND
        events += exchange.advance(now)
    for _ in range(5):
        now += 10 * SECOND
        events += exchange.advance(now)
    # Nothing may fill any more, so that the last commission is told as well.
    return exchange, [*events, *exchange.global_cancel(now), *exchange.advance(now + SECOND)]


@settings(max_examples=25, deadline=None)
@given(plans)
def test_what_was_said_is_what_was_booked(plan: list[tuple[Any, ...]]) -> None:
    exchange, events = played(plan)
    held: dict[int, Decimal] = defaultdict(Decimal)
    cash = D(100_000_000)
    for event in events:
        if isinstance(event, Executed) and event.execution.contract.sec_type != "BAG":
            execution = event.execution
            signed = execution.quantity if execution.side == "BOT" else -execution.quantity
            held[execution.contract.con_id] += signed
            cash -= signed * execution.price
        elif isinstance(event, CommissionReported):
            cash -= event.commission.amount
    now = START + 600 * SECOND
    rows = {row.contract.con_id: row.quantity for row in exchange.positions(now)}
    assert {con_id: quantity for con_id, quantity in held.items() if quantity} == {
        con_id: quantity for con_id, quantity in rows.items() if quantity
    }
    (shown,) = [D(r.value) for r in exchange.account_values(now) if r.key == "CashBalance" and r.currency == "USD"]
    assert abs(shown - cash) <= D("0.01")


@settings(max_examples=25, deadline=None)
@given(plans)
def test_an_order_is_told_without_contradiction(plan: list[tuple[Any, ...]]) -> None:
    _, events = played(plan)
    filled: dict[int, Decimal] = defaultdict(Decimal)
    done: set[int] = set()
    for event in events:
        if isinstance(event, OrderChanged):
            snapshot = event.order
            assert snapshot.perm_id not in done, "an order that was done changed again"
            assert snapshot.filled + snapshot.remaining == snapshot.request.quantity
            assert snapshot.filled == filled[snapshot.perm_id]
            assert snapshot.remaining >= 0
            assert (snapshot.status == "Filled") == (snapshot.remaining == 0)
            if snapshot.status in ("Filled", "Cancelled", "Inactive"):
                done.add(snapshot.perm_id)
        elif isinstance(event, Executed) and event.execution.exec_id.count(".") == 3:
            execution = event.execution
            filled[execution.perm_id] += execution.quantity
            assert execution.cum_quantity == filled[execution.perm_id]
            if plan[execution.order_id - 1][0] in ("MKT", "LMT") and plan[execution.order_id - 1][4] == "FOK":
                assert execution.quantity == plan[execution.order_id - 1][2]
    executed = [e.execution.exec_id for e in only(Executed, events)]
    assert len(executed) == len(set(executed))
