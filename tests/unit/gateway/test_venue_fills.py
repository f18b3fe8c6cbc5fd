"""The fill model and the fees, shared by paper trading and backtests."""

from __future__ import annotations

import doctest
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.brokers import fees, fills
from trading.brokers.fees import FixedStockFees, ForexFees, RegulatoryFees, TieredStockFees, Traded, execution_fee
from trading.brokers.fills import FillOrder, match, stretch_of_bar

D = Decimal
BAR = stretch_of_bar(D(100), D(104), D(97), D(1000))


def fill(
    side: str, kind: str, price: str | None = None, stretch: fills.Stretch = BAR, **fields: object
) -> fills.Outcome:
    key = {"LMT": "limit", "STP": "stop"}.get(kind)
    given_: dict[str, object] = {key: D(price)} if key and price else {}
    return match(FillOrder(side == "BUY", kind, D(10), **given_, **fields), stretch)  # type: ignore[arg-type]


@pytest.mark.parametrize("module", [fills, fees])
def test_the_examples_hold(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("side", "kind", "price", "expected"),
    [
        ("BUY", "MKT", None, 100),
        ("SELL", "MKT", None, 100),
        ("BUY", "LMT", "98", 98),
        ("BUY", "LMT", "102", 100),  # opened below the limit: the better price
        ("BUY", "LMT", "96", None),
        ("SELL", "LMT", "103", 103),
        ("SELL", "LMT", "99", 100),
        ("SELL", "LMT", "105", None),
        ("BUY", "STP", "102", 102),
        ("BUY", "STP", "99", 100),  # gapped beyond the stop: the worse price
        ("BUY", "STP", "105", None),
        ("SELL", "STP", "98", 98),
        ("SELL", "STP", "101", 100),
        ("SELL", "STP", "96", None),
    ],
)
def test_what_an_order_gets_from_a_bar(side: str, kind: str, price: str | None, expected: int | None) -> None:
    outcome = fill(side, kind, price)
    assert outcome.quantity == (0 if expected is None else 10)
    assert outcome.price == (expected or 0)
    assert outcome.triggered == (kind == "STP" and expected is not None)


def test_the_spread_is_paid_by_who_takes() -> None:
    bar = stretch_of_bar(D(100), D(104), D(97), half_spread=D("0.05"))
    assert fill("BUY", "MKT", stretch=bar).price == D("100.05")
    assert fill("SELL", "MKT", stretch=bar).price == D("99.95")
    assert fill("BUY", "LMT", "97", stretch=bar).quantity == 0
    assert fill("BUY", "STP", "102", stretch=bar).price == D("102.05")


def test_nobody_gets_more_than_was_there() -> None:
    order = FillOrder(True, "MKT", D(900))
    assert match(order, BAR, participation=D("0.25")).quantity == 250
    assert match(order, BAR, participation=D("0.25"), lot=D(100)).quantity == 200
    assert match(order, stretch_of_bar(D(1), D(1), D(1), D(0))).quantity == 0
    assert match(order, stretch_of_bar(D(1), D(1), D(1))).quantity == 900


def test_a_triggered_stop_goes_on_as_a_market_order() -> None:
    assert fill("BUY", "STP", "200", triggered=True).price == 100


def test_a_stop_without_volume_is_triggered_and_waits() -> None:
    outcome = fill("SELL", "STP", "98", stretch=stretch_of_bar(D(100), D(104), D(97), D(0)))
    assert outcome.quantity == 0
    assert outcome.triggered


@pytest.mark.parametrize(
    ("kind", "text"), [("LMT", "needs a limit"), ("STP", "needs a stop"), ("REL", "no order type")]
)
def test_orders_that_the_model_cannot_work_raise(kind: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        fill("BUY", kind)


cents = st.integers(1, 50_000).map(lambda n: D(n) / 100)


@given(cents, cents, cents, cents, st.sampled_from(["BUY", "SELL"]))
def test_a_limit_is_never_broken_and_prices_come_from_the_bar(
    a: Decimal, b: Decimal, c: Decimal, limit: Decimal, side: str
) -> None:
    low, open_, high = sorted((a, b, c))
    outcome = fill(side, "LMT", str(limit), stretch=stretch_of_bar(open_, high, low))
    if outcome.quantity:
        assert low <= outcome.price <= high
        assert outcome.price <= limit if side == "BUY" else outcome.price >= limit
    else:
        assert limit < low if side == "BUY" else limit > high


def test_fixed_fees_have_a_minimum_and_a_cap() -> None:
    plan = FixedStockFees()
    assert plan.total(Traded(D(1), D(500))) == 1
    assert plan.total(Traded(D(1), D(10))) == D("0.10")
    assert plan.total(Traded(D(300), D(30_000))) == D("1.5")
    assert plan.total(Traded()) == 0


def test_tiers_are_charged_across_their_edge() -> None:
    plan = TieredStockFees(month_volume=D(299_000), exchange_per_share=D(0), clearing_per_share=D(0))
    assert plan.total(Traded(D(2000), D(100_000))) == 1000 * D("0.0035") + 1000 * D("0.0020")


def test_sales_bear_the_regulators_fees() -> None:
    plan = FixedStockFees(regulatory=RegulatoryFees(D("0.00002"), D("0.0001"), D(8)))
    assert plan.total(Traded(D(1000), D(50_000), True)) == 5 + D("1.00") + D("0.1")
    assert plan.total(Traded(D(1000), D(50_000), False)) == 5


def test_forex_has_a_minimum() -> None:
    assert ForexFees().total(Traded(D(1000), D(1080))) == 2


@given(st.lists(st.tuples(st.integers(1, 5000), cents), min_size=1, max_size=20), st.booleans())
def test_fees_of_the_executions_add_up_to_that_of_the_order(parts: list[tuple[int, Decimal]], is_sell: bool) -> None:
    for plan in (FixedStockFees(regulatory=RegulatoryFees()), TieredStockFees()):
        done, paid = Traded(is_sell=is_sell), D(0)
        for quantity, price in parts:
            after = Traded(done.quantity + quantity, done.value + quantity * price, is_sell)
            paid += execution_fee(plan, done, after)
            done = after
        assert abs(paid - plan.total(done)) <= D("0.000001") * len(parts)
