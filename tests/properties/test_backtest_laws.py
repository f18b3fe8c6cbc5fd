"""Laws of a backtest that hold for every script, bar and cost; fast ways are held to the slow ones they stand for."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from portfolio.ledger.positions import FLAT, apply_fill, average_cost
from strategies.exceptions import OrderDeniedError
from strategies.reactive import Signal, SignalAction
from tests.support.backtests import BUY, CLOSE, FREE, HOLD, SELL, D, Row, days, play
from trading.backtest.book import Book, Holding
from trading.backtest.contracts import BacktestResult, InstrumentTerms, Models, NoFees
from trading.brokers.fees import FixedStockFees, RegulatoryFees, TieredStockFees, Traded, execution_fee
from trading.brokers.fills import FillOrder, match, stretch_of_bar
from trading.market import signal_rules
from trading.market.signal_rules import Gates, KnownFacts, plan_signal

few, some = settings(max_examples=30, deadline=None), settings(max_examples=60, deadline=None)
cents = st.integers(9_000, 11_000).map(lambda n: n / 100)
FEES = (NoFees(), FixedStockFees(), FixedStockFees(regulatory=RegulatoryFees()), TieredStockFees())


@st.composite
def rows(draw: st.DrawFn) -> Row:
    """A bar, now and then of little volume."""
    low, a, b, high = sorted(draw(st.tuples(cents, cents, cents, cents)))
    open_, close = (a, b) if draw(st.booleans()) else (b, a)
    return open_, high, low, close, float(draw(st.sampled_from([0, 3, 25, 10_000])))


@st.composite
def signals(draw: st.DrawFn) -> Signal:
    """Whatever a strategy may ask, sensible or not."""
    action = draw(st.sampled_from([BUY, BUY, SELL, SELL, CLOSE, HOLD]))
    terms: dict[str, Any] = {"quantity": draw(st.none() | st.integers(0, 40))}
    if action in (BUY, SELL):
        more: Any = draw(
            st.sampled_from(
                [
                    {},
                    {},
                    {"price": 99.0},
                    {"price": 101.0},
                    {"order_type": "MOC"},
                    {"order_type": "LOC", "price": 100.0},
                ]
            )
            | st.fixed_dictionaries({"order_type": st.just("STP"), "stop": cents})
            | st.fixed_dictionaries({"order_type": st.just("STP LMT"), "stop": cents, "price": cents})
            | st.fixed_dictionaries({"order_type": st.just("MIT"), "stop": cents})
            | st.fixed_dictionaries({"order_type": st.just("TRAIL"), "trail": st.sampled_from([0.5, 2.0])})
        )
        terms |= more
        if "order_type" not in terms:
            terms["tif"] = draw(st.sampled_from(["DAY", "GTC", "IOC", "FOK", "OPG"]))
            terms["stop_loss"] = draw(st.none() | cents)
            terms["take_profit"] = draw(st.none() | cents)
        elif not terms["order_type"].endswith("OC"):
            terms["tif"] = draw(st.sampled_from(["DAY", "GTC"]))
    return Signal("X", action, **terms)


@st.composite
def scripts(draw: st.DrawFn) -> tuple[dict[int, list[Signal]], list[Row]]:
    bars = draw(st.lists(rows(), min_size=3, max_size=14))
    plan = draw(st.dictionaries(st.integers(0, len(bars) - 1), st.lists(signals(), min_size=1, max_size=3), max_size=8))
    return plan, bars


def replay(result: BacktestResult, fees: Any) -> None:
    """The books of a run against the ledger's own arithmetic, fill by fill; fees against the order's whole fee."""
    state, cash = FLAT, D(0)
    traded: dict[int, Traded] = defaultdict(Traded)
    for fill in result.fills:
        before = traded[fill.order_id]._replace(is_sell=fill.quantity < 0)
        worth = abs(fill.quantity) * fill.price
        after = Traded(before.quantity + abs(fill.quantity), before.value + worth, fill.quantity < 0)
        traded[fill.order_id] = after
        assert fill.fee == execution_fee(fees, before, after)
        step = apply_fill(state, fill.quantity, fill.price, fill.fee)
        assert fill.realized == step.realized_pnl + fill.fee
        state, cash = step.position, cash + step.cash
    outcome = result.strategies["S"]
    assert outcome.cash == outcome.start_cash + cash
    assert outcome.realized - outcome.fees == state.realized_pnl
    held = sum((position.quantity for position in outcome.positions), D(0))
    assert held == state.quantity
    for position in outcome.positions:
        assert position.average_cost == average_cost(state.quantity, state.cost_basis)
    unrealized = sum((position.unrealized for position in outcome.positions), D(0))
    assert outcome.equity == outcome.start_cash + outcome.realized - outcome.fees + unrealized
    assert abs(outcome.equity_curve[-1] - float(outcome.equity)) < 1e-6


@some
@given(scripts(), st.sampled_from(FEES), st.sampled_from([None, D(1), D("0.2")]), st.booleans())
def test_books_fees_and_orders_agree_with_the_fills(
    script: tuple[dict[int, list[Signal]], list[Row]], fees: Any, share: Decimal | None, shorts: bool
) -> None:
    plan, bars = script
    models = Models(fees=fees, participation=share, allow_short=shorts)
    result = play(plan, days("X", bars), models, cash=10_000)
    assert not result.strategies["S"].errors
    replay(result, fees)
    filled: dict[int, Decimal] = defaultdict(Decimal)
    for fill in result.fills:
        filled[fill.order_id] += abs(fill.quantity)
    assert {order.order_id: order.filled for order in result.orders if order.filled} == dict(filled)
    for order in result.orders:
        assert order.filled <= order.quantity or order.state == "denied"
        assert (order.state == "filled") <= (order.filled == order.quantity)
    if not shorts:
        held = D(0)
        for fill in result.fills:
            held += fill.quantity
            assert held >= 0


@some
@given(scripts(), st.sampled_from([D(1), D("0.2")]))
def test_prices_lie_within_the_bar_and_quantities_within_its_volume(
    script: tuple[dict[int, list[Signal]], list[Row]], share: Decimal
) -> None:
    plan, bars = script
    series = days("X", bars)
    result = play(plan, series, Models(fees=NoFees(), participation=share), cash=10_000)
    starts, columns = series.whole()
    by_day = {int(start) // 86_400_000_000_000: row for row, start in enumerate(starts)}
    taken: dict[int, Decimal] = defaultdict(Decimal)
    for fill in result.fills:
        row = by_day[fill.time_ns // 86_400_000_000_000]
        assert columns[2][row] <= float(fill.price) <= columns[1][row]
        order = result.orders[fill.order_id - 1]
        in_auction = fill.order_type in ("MOC", "LOC") or order.order_type == "MKT"
        if not in_auction:
            taken[row] += abs(fill.quantity)
    unlimited = not columns[4].any()
    for row, quantity in taken.items():
        assert unlimited or quantity <= Decimal(columns[4][row]) * share or _has_opg(plan)


def _has_opg(plan: dict[int, list[Signal]]) -> bool:
    return any(signal.tif == "OPG" for signals in plan.values() for signal in signals)


@some
@given(rows(), st.integers(1, 60), st.booleans(), st.sampled_from([D(0), D("0.05")]), st.sampled_from([None, D("0.5")]))
def test_a_plain_market_order_is_what_the_model_says(
    bar: Row, units: int, is_buy: bool, half: Decimal, share: Decimal | None
) -> None:
    series = days("X", [(100.0, 100.0, 100.0, 100.0, 1e6), bar])
    models = Models(fees=NoFees(), half_spread=half, participation=share)
    result = play({0: [Signal("X", BUY if is_buy else SELL, units)]}, series, models)
    numbers = [Decimal(repr(value)) for value in bar]
    stretch = stretch_of_bar(numbers[0], numbers[1], numbers[2], None if share is None else numbers[4], half)
    expected = match(FillOrder(is_buy, "MKT", D(units)), stretch, participation=share or D(1))
    found = [(abs(fill.quantity), fill.price) for fill in result.fills]
    assert found == ([(expected.quantity, expected.price)] if expected.quantity else [])


@some
@given(scripts())
def test_exits_and_closing_orders_never_turn_a_position(script: tuple[dict[int, list[Signal]], list[Row]]) -> None:
    """Trap 41: only what was placed to open may open."""
    plan, bars = script
    result = play(plan, days("X", bars), FREE, cash=10_000)
    exits = {fill.order_id for fill in result.fills if fill.reason in ("stop loss", "take profit")}
    held = D(0)
    for fill in result.fills:
        after = held + fill.quantity
        if fill.order_id in exits:
            assert abs(after) < abs(held)
            assert after * held >= 0
        held = after


@few
@given(
    st.lists(st.tuples(st.integers(-50, 50).filter(bool), st.decimals("0.01", 500, places=4)), max_size=25),
    st.sampled_from([D(1), D(100), D("0.5")]),
)
def test_books_do_what_the_ledger_does(trades: list[tuple[int, Decimal]], multiplier: Decimal) -> None:
    holding = _holding(multiplier)
    state = FLAT
    for units, price in trades:
        quantity = D(units)
        expected = apply_fill(state, quantity, price, D("0.35"), multiplier)
        realized = holding.book.apply(holding, quantity, price, -quantity * price * multiplier, D("0.35"))
        state = expected.position
        assert realized == expected.realized_pnl + D("0.35")
        assert (holding.held, holding.basis) == (state.quantity, state.cost_basis)
        assert holding.realized - holding.book.fees == state.realized_pnl
    assert holding.book.cash == 1000 + holding.realized - holding.book.fees - holding.basis
    assert holding.book.shorts == (holding.held < 0)


def _holding(multiplier: Decimal) -> Holding:
    """A position without a market."""

    class NoLane:
        terms = InstrumentTerms("X", multiplier=multiplier)
        models = FREE

    return Holding(Book(D(1000)), NoLane())  # type: ignore[arg-type]


quantities = st.integers(-100, 100).map(D)


@some
@given(signals(), quantities, st.integers(0, 30).map(D), st.integers(0, 30).map(D), st.booleans(), st.booleans())
def test_the_short_way_of_the_rules_says_what_the_long_one_says(
    signal: Signal, held: Decimal, buying: Decimal, selling: Decimal, shorts: bool, priced: bool
) -> None:
    facts = KnownFacts(held, buying, selling, price=D(100) if priced else None, equity=D(10_000))
    gates = Gates(fraction=D("0.3"), allow_short=shorts)
    slow = Gates(fraction=D("0.3"), allow_short=shorts, max_open_positions=1_000)  # a bound that binds nobody
    assert slow.are_tight
    assert not gates.are_tight
    answers = []
    for each in (gates, slow):
        try:
            answers.append(plan_signal(signal, facts, each))
        except OrderDeniedError as error:
            answers.append(error.message)  # type: ignore[arg-type]
    assert answers[0] == answers[1]


@some
@given(signals(), quantities, st.booleans())
def test_what_is_planned_never_opens_against_its_gates(signal: Signal, held: Decimal, shorts: bool) -> None:
    facts = KnownFacts(held, price=D(100), equity=D(10_000))
    try:
        plan = plan_signal(signal, facts, Gates(allow_short=shorts))
    except OrderDeniedError:
        return
    if plan is None:
        return
    after = held + plan.quantity
    assert plan.opens == signal_rules.opening_part(held, plan.quantity) if plan.quantity else not plan.opens
    if not shorts:
        assert after >= min(held, D(0))
    if signal.quantity is None or signal.action is SignalAction.CLOSE:
        assert not held or after * held >= 0
