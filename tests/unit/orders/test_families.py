"""Families, combinations, doubts and settlements as the tables hold them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from ib_async import Future

from portfolio.models import Position
from portfolio.services import ensure_account, fold_batch
from strategies.combos import roll
from strategies.events import ContractSnapshot, LegSnapshot
from strategies.exceptions import ConflictError, NotFoundError, StaleEpochError
from tests.unit.orders.evidence import NOW, draft, fact, status, trade
from tests.unit.portfolio.builders import ACCOUNT, contract, fill
from trading.ib.capture import Capture
from trading.models import Order, OrderEvent
from trading.orders import queries, services, settling
from trading.orders.inflight import in_flight
from trading.orders.intents import IntentWriter

pytestmark = pytest.mark.django_db

OLD = contract(11, "VXM", sec_type="FUT", multiplier=Decimal(100), expiry="20260318")
NEW = contract(12, "VXM", sec_type="FUT", multiplier=Decimal(100), expiry="20260415")
ROLL = ContractSnapshot(0, "VXM", "BAG", "CFE", "USD", legs=(LegSnapshot(12, 1), LegSnapshot(11, -1)))


def writer() -> IntentWriter:
    return IntentWriter(lambda: None, lambda: NOW)


def sent(**changes: object) -> str:
    """Commit an intent and hand it over; nobody waits for its answer any more."""
    intents = writer()
    ref = intents.commit(draft(**changes))  # type: ignore[arg-type]  # keyword bag of a builder
    intents.mark_sent(ref, 7, 3)
    with in_flight._lock:
        in_flight._members.clear()
    return ref


def state(ref: str) -> str:
    return Order.objects.get(order_ref=ref).state


def test_family_is_on_record_as_a_whole_with_its_parent() -> None:
    exits = [draft(side="SELL", order_type="LMT", limit_price=Decimal(9)), draft(side="SELL", order_type="STP")]
    refs = writer().commit_family([draft(), *exits], is_bracket=True)
    rows = Order.objects.order_by("id")
    assert [row.order_ref for row in rows] == refs
    assert [row.parent_ref for row in rows] == ["", refs[0], refs[0]]
    assert {row.state for row in rows} == {"intent"}
    assert OrderEvent.objects.count() == 3


def test_stale_engine_writes_no_part_of_a_family() -> None:
    def _stale() -> NoReturn:
        raise StaleEpochError("another engine took over")

    with pytest.raises(StaleEpochError):
        IntentWriter(_stale).commit_family([draft(), draft(side="SELL")], is_bracket=True)
    assert not Order.objects.exists()


def test_row_remembers_the_terms_of_its_order() -> None:
    terms = draft(order_type="TRAIL", tif="GTD", oca_group="T/oca/1", outside_rth=True)
    ref = writer().commit(replace(terms, trail_percent=Decimal("1.5"), good_till=NOW, good_after=NOW))
    row = Order.objects.get(order_ref=ref)
    assert (row.trail_percent, row.good_till, row.good_after) == (Decimal("1.5"), NOW, NOW)
    assert (row.outside_rth, row.oca_group, row.transmitted) == (True, "T/oca/1", True)


def test_what_ib_says_of_the_terms_is_taken_over() -> None:
    ref = sent()
    told = replace(trade(ref), trail_amount=Decimal(2), stop_price=Decimal(98), oca_group="g", outside_rth=True)
    services.record_order(told, NOW)
    row = Order.objects.get(order_ref=ref)
    assert (row.trail_amount, row.stop_price, row.oca_group, row.outside_rth) == (Decimal(2), Decimal(98), "g", True)


def test_rejected_change_leaves_the_order_as_it_was() -> None:
    ref = sent(order_type="LMT", limit_price=Decimal(10))
    services.record_order(trade(ref, limit="10"), NOW)
    before = Order.objects.values("state", "quantity", "limit_price", "filled").get(order_ref=ref)
    for code in (201, 110, 105, 134, 2102, 10149):
        services.record_status(trade(ref, limit="10"), status(code=code, text="change refused"), NOW)
    assert Order.objects.values("state", "quantity", "limit_price", "filled").get(order_ref=ref) == before


# -- combinations


def test_roll_books_its_legs_and_counts_as_one_order() -> None:
    ensure_account(ACCOUNT, "USD")
    ref = writer().commit(replace(draft(2), contract=ROLL, account=ACCOUNT))
    bag = replace(fill(1, 2, "0.5", of=ROLL), order_ref=ref, perm_id=900)
    buys = replace(fill(2, 2, 20, of=NEW), order_ref=ref, perm_id=900)
    first = replace(fill(3, -1, "19.5", of=OLD), order_ref=ref, perm_id=900)
    second = replace(fill(4, -1, "19.5", of=OLD), order_ref=ref, perm_id=900)
    seen = []
    for batch in ([bag, buys], [first], [second], [bag, buys, first, second]):
        result = fold_batch(ACCOUNT, batch, lambda _: "T", NOW)
        services.record_executions(result.new_executions, NOW)
        row = Order.objects.get(order_ref=ref)
        seen.append((row.state, row.filled))
    assert [(state_, int(filled)) for state_, filled in seen] == [
        ("intent", 0),
        ("partial", 1),
        ("filled", 2),
        ("filled", 2),
    ]
    held = dict(Position.objects.filter(owner="T").values_list("instrument_id", "quantity"))
    assert held == {OLD.con_id: -2, NEW.con_id: 2}, "legs, never the combination"
    assert row.average_price == Decimal("0.5")
    assert "Overfilled" not in row.reason


# -- nobody answers


def test_sent_order_without_an_answer_is_doubted_and_its_late_answer_believed() -> None:
    ref = sent()
    assert settling.unacknowledged(NOW + timedelta(seconds=4)) == []
    assert settling.unacknowledged(NOW + timedelta(seconds=6)) == [ref]
    settling.doubt([ref], NOW)
    assert state(ref) == "unknown"
    assert settling.unacknowledged(NOW + timedelta(seconds=6)) == []
    services.record_status(trade(ref), status("Submitted"), NOW)
    assert state(ref) == "accepted"


def test_order_held_in_tws_until_its_family_is_whole_is_not_doubted() -> None:
    sent(transmitted=False)
    assert settling.unacknowledged(NOW + timedelta(minutes=1)) == []


def test_settled_order_ends_with_the_persons_reason_and_a_late_fill_is_still_booked() -> None:
    ref = sent()
    settling.doubt([ref], NOW)
    row = settling.settle(ref, "not in TWS", "otto", NOW)
    assert (row.state, row.reason) == ("cancelled", "Settled by otto: not in TWS")
    assert OrderEvent.objects.filter(order=row).last().message == row.reason  # type: ignore[union-attr]  # it exists
    services.record_executions([fact(ref, 100)], NOW)
    assert state(ref) == "filled"


def test_only_an_order_nobody_answers_for_is_settled() -> None:
    ref = sent()
    services.record_order(trade(ref), NOW)
    with pytest.raises(ConflictError) as caught:
        settling.settle(ref, "why", "otto", NOW)
    assert caught.value.code == "order_known"
    services.record_status(trade(ref), status("Cancelled"), NOW)
    with pytest.raises(ConflictError) as caught:
        settling.settle(ref, "why", "otto", NOW)
    assert caught.value.code == "order_done"
    with pytest.raises(NotFoundError):
        settling.settle("T/nothing", "why", "otto", NOW)


def test_incarnations_of_one_order_are_found_by_ibs_number() -> None:
    first, second = sent(), sent(client_id=7)
    other = sent()
    Order.objects.filter(order_ref__in=[first, second]).update(perm_id=900)
    Order.objects.filter(order_ref=other).update(perm_id=901)
    assert [row.order_ref for row in queries.twins(Order.objects.get(order_ref=first))] == [second]
    assert queries.twins(Order(order_ref="x")) == []


def test_combinations_are_told_apart_by_their_legs_though_none_has_an_id() -> None:
    ib = SimpleNamespace()
    capture: Any = Capture.__new__(Capture)
    capture._contracts, capture._ib = {}, ib
    bags = [roll(Future("VXM", conId=near, currency="USD"), Future("VXM", conId=far, currency="USD"), Decimal(1))[0]
            for near, far in ((11, 12), (12, 13))]  # fmt: skip
    assert capture._contract(bags[0]).legs != capture._contract(bags[1]).legs
