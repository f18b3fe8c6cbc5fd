"""Laws of the fill model that hold for every type, side, price and stretch of market."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading.brokers.fills import FillOrder, Leg, Outcome, Stretch, combine, match, stretch_of_bar

D = Decimal
TICK = D("0.01")
STOPS = ("STP", "STP LMT", "TRAIL", "TRAIL LIMIT")
TOUCHES = ("MIT", "LIT")
LIMITED = ("LMT", "STP LMT", "LIT", "LOC")
ALL = ("MKT", "LMT", *STOPS, *TOUCHES, "MOC", "LOC")
few = settings(max_examples=60)
cents = st.integers(5_000, 15_000).map(lambda n: D(n) / 100)


@st.composite
def stretches(draw: st.DrawFn) -> Stretch:
    """A bar with a spread, a volume or none, and now and then an auction at either end."""
    low, open_, high = sorted(draw(st.tuples(cents, cents, cents)))
    volume = draw(st.none() | st.integers(0, 300).map(D))
    opening, closing = draw(st.none() | st.just(open_)), draw(st.none() | st.sampled_from([low, open_, high]))
    half = draw(st.integers(0, 5)) * TICK
    return stretch_of_bar(open_, high, low, volume, half, opening=opening, closing=closing)


@st.composite
def orders(draw: st.DrawFn, kinds: tuple[str, ...] = ALL) -> FillOrder:
    """An order with the prices that its type needs."""
    kind = draw(st.sampled_from(kinds))
    values: dict[str, Any] = {"limit": draw(cents), "stop": draw(cents), "triggered": draw(st.booleans())}
    if kind.startswith("TRAIL"):
        values["stop"] = draw(st.none() | cents)
        amount = draw(st.integers(1, 800)) * TICK
        values |= {"trail": amount} if draw(st.booleans()) else {"trail_percent": amount}
        values["limit_offset"] = draw(st.integers(0, 100)) * TICK
    quantity, whole = D(draw(st.integers(1, 200))), draw(st.booleans())
    return FillOrder(draw(st.booleans()), kind, quantity, whole=whole, **values)


def auction(order: FillOrder, stretch: Stretch) -> Decimal | None:
    """The price of the auction that the order works in."""
    if order.at_open:
        return stretch.opening
    return stretch.closing if order.order_type in ("MOC", "LOC") else None


def started(order: FillOrder, stretch: Stretch) -> Decimal:
    """The trigger, a trailing stop's at its distance when it has none yet."""
    if order.stop is not None:
        return order.stop
    distance = order.trail if order.trail is not None else stretch.last * (order.trail_percent or D(0)) / 100
    return stretch.last + distance if order.is_buy else stretch.last - distance


@few
@given(orders(), stretches())
def test_nobody_gets_a_better_price_than_the_market_offered(order: FillOrder, stretch: Stretch) -> None:
    outcome = match(order, stretch, tick=TICK)
    if not outcome.quantity:
        return
    crossed = auction(order, stretch)
    if crossed is not None:
        assert outcome.price == crossed
    elif order.is_buy:
        assert outcome.price >= min(stretch.ask, stretch.lowest_ask)
    else:
        assert outcome.price <= max(stretch.bid, stretch.highest_bid)


@few
@given(orders(), stretches(), st.sampled_from([D("0.2"), D(1)]))
def test_nobody_gets_more_than_was_asked_or_traded(order: FillOrder, stretch: Stretch, share: Decimal) -> None:
    outcome = match(order, stretch, participation=share)
    assert 0 <= outcome.quantity <= order.remaining
    assert stretch.volume is None or outcome.quantity <= stretch.volume * share
    assert (outcome.price > 0) == (outcome.quantity > 0)
    if order.whole:
        assert outcome.quantity in (0, order.remaining)


@few
@given(orders(LIMITED), stretches(), st.booleans())
def test_a_limit_is_respected(order: FillOrder, stretch: Stretch, on_tick: bool) -> None:
    outcome = match(order, stretch, tick=TICK if on_tick else None)
    assert order.limit is not None
    if outcome.quantity:
        assert outcome.price <= order.limit if order.is_buy else outcome.price >= order.limit


@few
@given(orders(("TRAIL LIMIT",)), stretches())
def test_the_limit_of_a_trailing_order_lies_at_its_offset(order: FillOrder, stretch: Stretch) -> None:
    outcome = match(order, stretch)
    assert order.limit_offset is not None
    if outcome.quantity:
        assert outcome.stop is not None
        beyond = outcome.price - outcome.stop if order.is_buy else outcome.stop - outcome.price
        assert beyond <= order.limit_offset


@few
@given(orders((*STOPS, *TOUCHES)), stretches())
def test_nothing_fills_before_its_trigger(order: FillOrder, stretch: Stretch) -> None:
    outcome = match(order, stretch)
    rising = order.is_buy is (order.order_type in STOPS)
    stop = started(order, stretch)
    reached = stretch.high >= stop if rising else stretch.low <= stop
    assert outcome.triggered == (order.triggered or reached)
    assert not outcome.quantity or outcome.triggered


@few
@given(orders(("STP", "TRAIL")), stretches())
def test_a_stop_pays_its_price_or_worse(order: FillOrder, stretch: Stretch) -> None:
    outcome = match(order, stretch)
    stop = started(order, stretch)
    if outcome.quantity and not order.triggered:
        assert outcome.price >= stop if order.is_buy else outcome.price <= stop


@few
@given(orders(("TRAIL", "TRAIL LIMIT")), st.lists(stretches(), min_size=1, max_size=8), st.booleans())
def test_a_trailing_stop_moves_in_its_orders_favour_only(
    order: FillOrder, market: list[Stretch], on_tick: bool
) -> None:
    stop = order.stop
    for stretch in market:
        following = FillOrder(
            order.is_buy, order.order_type, order.remaining, stop=stop, trail=order.trail,
            trail_percent=order.trail_percent, limit_offset=order.limit_offset,
        )  # fmt: skip
        outcome = match(following, stretch, tick=TICK if on_tick else None)
        assert outcome.stop is not None
        if stop is not None:
            assert outcome.stop <= stop if order.is_buy else outcome.stop >= stop
        if outcome.triggered:
            assert stop is None or outcome.stop == stop
            break
        stop = outcome.stop


@few
@given(orders(), stretches())
def test_a_sale_mirrors_a_purchase(order: FillOrder, stretch: Stretch) -> None:
    """Prices turned around 200, everything happens alike: no side has an advantage."""
    if order.trail_percent is not None:
        return

    def turned(price: Decimal | None) -> Decimal | None:
        return None if price is None else D(400) - price

    mirror = Stretch(
        bid=D(400) - stretch.ask, ask=D(400) - stretch.bid, last=D(400) - stretch.last, high=D(400) - stretch.low,
        low=D(400) - stretch.high, highest_bid=D(400) - stretch.lowest_ask, lowest_ask=D(400) - stretch.highest_bid,
        volume=stretch.volume, opening=turned(stretch.opening), closing=turned(stretch.closing),
    )  # fmt: skip
    other = FillOrder(
        not order.is_buy, order.order_type, order.remaining, turned(order.limit), turned(order.stop), order.triggered,
        order.trail, None, order.limit_offset, order.at_open, order.whole,
    )  # fmt: skip
    straight, turned_around = match(order, stretch), match(other, mirror)
    assert turned_around.quantity == straight.quantity
    assert turned_around.triggered == straight.triggered
    assert turned_around.price == (D(400) - straight.price if straight.quantity else 0)
    assert turned_around.stop == turned(straight.stop)


@few
@given(orders(("MKT", "LMT")), stretches())
def test_an_order_for_the_opening_works_nowhere_else(order: FillOrder, stretch: Stretch) -> None:
    at_open = FillOrder(order.is_buy, order.order_type, order.remaining, order.limit, at_open=True)
    outcome = match(at_open, stretch)
    if outcome.quantity:
        assert outcome.price == stretch.opening
    else:
        no_volume = stretch.volume is not None and stretch.volume < 1
        assert stretch.opening is None or no_volume or order.order_type == "LMT"


@few
@given(stretches(), stretches(), st.integers(1, 5), st.integers(1, 5))
def test_a_combination_costs_its_legs_quotes(first: Stretch, second: Stretch, buys: int, sells: int) -> None:
    both = combine([Leg(D(buys), D(1), first), Leg(D(-sells), D(1), second)])
    assert both.ask == buys * first.ask - sells * second.bid
    assert both.bid == buys * first.bid - sells * second.ask
    assert both.bid <= both.last <= both.ask
    if both.volume is not None:
        assert first.volume is None or both.volume * buys <= first.volume
        assert second.volume is None or both.volume * sells <= second.volume


WORKED = stretch_of_bar(D(100), D(104), D(97), half_spread=D("0.02"), opening=D(100), closing=D(103))


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (FillOrder(True, "MIT", D(1), stop=D(98)), Outcome(D("98.02"), D(1), True)),
        (FillOrder(True, "MIT", D(1), stop=D(101)), Outcome(D("100.02"), D(1), True)),  # a gap to its advantage
        (FillOrder(False, "MIT", D(1), stop=D(105)), Outcome()),
        (FillOrder(True, "LIT", D(1), D("98.01"), D(98)), Outcome(triggered=True)),  # the ask there is beyond its limit
        (FillOrder(True, "STP LMT", D(1), D(103), D(102)), Outcome(D("102.02"), D(1), True)),
        (FillOrder(True, "STP LMT", D(1), D(101), D(102)), Outcome(triggered=True)),  # 97 may have come before 102
        (FillOrder(True, "STP LMT", D(1), D(98), D(99)), Outcome(D(98), D(1), True)),  # triggered at the start
        (FillOrder(True, "STP LMT", D(1), D(101), D(102), True), Outcome(D("100.02"), D(1), True)),
        (FillOrder(False, "TRAIL", D(1), trail=D(2)), Outcome(D("97.98"), D(1), True, D(98))),
        (FillOrder(False, "TRAIL", D(1), trail_percent=D(5)), Outcome(stop=D("98.8"))),
        (FillOrder(False, "TRAIL LIMIT", D(1), trail=D(2), limit_offset=D("0.01")), Outcome(D(0), D(0), True, D(98))),
        (FillOrder(False, "LOC", D(1), D(103)), Outcome(D(103), D(1))),
        (FillOrder(False, "MKT", D(1), at_open=True), Outcome(D(100), D(1))),
    ],
)  # fmt: skip
def test_worked_cases(order: FillOrder, expected: Outcome) -> None:
    assert match(order, WORKED) == expected


@pytest.mark.parametrize(
    "order",
    [
        FillOrder(True, "STP LMT", D(1), stop=D(99)),
        FillOrder(True, "LIT", D(1), limit=D(99)),
        FillOrder(True, "TRAIL", D(1)),
        FillOrder(True, "TRAIL LIMIT", D(1), trail=D(1)),
        FillOrder(True, "LOC", D(1)),
    ],
)
def test_a_missing_price_is_an_error(order: FillOrder) -> None:
    with pytest.raises(ValueError, match="needs"):
        match(order, WORKED)
