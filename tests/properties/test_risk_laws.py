"""Laws of the pre-trade checks, whatever the account looks like: they never keep anyone in, and only get stricter."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.exceptions import OrderDeniedError
from tests.unit.orders.evidence import AAPL, NOW, draft
from trading.orders.drafts import OrderDraft
from trading.orders.facts import AccountFigures, Desk, Holding, OpenOrder, Quote, RiskFacts, Standing
from trading.orders.limits import SPECS, LimitBook, LimitRow
from trading.orders.risk import check_order
from trading.orders.trading_state import TradingState

TYPES = ["MKT", "LMT", "STP", "STP LMT", "TRAIL", "TRAIL LIMIT", "MIT", "LIT", "MOC", "LOC"]
LISTED = {"restricted", "allowed", "what_if_margin", "self_cross"}
OTHER = 7
MAY_KEEP_IN = {"halted", "size_zero", "order_type", "price_missing", "price_collar", "duplicate_order"}
MAY_KEEP_IN |= {"too_many_working_orders", "self_cross"}

counts = st.integers(1, 400).map(Decimal)
prices = st.integers(1, 300).map(Decimal)
fractions = st.integers(0, 300).map(lambda per_cent: Decimal(per_cent) / 100)
hours = st.sampled_from([(), None, ((NOW, NOW + timedelta(hours=1)),)])
states = st.sampled_from([TradingState.ACTIVE, TradingState.REDUCING])


@st.composite
def limits(draw: st.DrawFn) -> list[LimitRow]:
    """Draw rows of any scope for the numeric limits."""
    names = st.sampled_from(sorted(set(SPECS) - LISTED))
    found = []
    for name in draw(st.lists(names, max_size=6)):
        value = draw(st.integers(0, 1).map(Decimal) if SPECS[name].unit == "0 or 1" else fractions)
        found.append(LimitRow(name, value, draw(st.sampled_from(["", "T"])), draw(st.sampled_from([0, AAPL.con_id]))))
    return found


@st.composite
def working_orders(draw: st.DrawFn, sides: tuple[str, ...] = ("BUY", "SELL")) -> list[OpenOrder]:
    """Draw working orders, old enough to be nobody's duplicate."""
    one = st.builds(
        OpenOrder,
        con_id=st.sampled_from([AAPL.con_id, OTHER]),
        side=st.sampled_from(sides),
        quantity=counts,
        order_type=st.just("LMT"),
        limit_price=st.just(Decimal(100)),
        stop_price=st.none(),
        age_s=st.just(600.0),
        owner=st.sampled_from(["T", "U"]),
        family=st.sampled_from(["", "G"]),
    )
    return draw(st.lists(one, max_size=5))


@st.composite
def desks(draw: st.DrawFn) -> Desk:
    """Draw an engine's side: figures, limits, hours, what people decided; prices may be missing and old."""
    rows, net = draw(limits()), Decimal(draw(st.integers(1_000, 2_000_000)))
    price = draw(st.none() | prices)
    excess = draw(st.none() | st.integers(-1_000, 2_000_000).map(Decimal))
    day_start = draw(st.none() | st.integers(0, 3_000_000).map(Decimal))
    held = [Holding("U", OTHER, Decimal(draw(st.integers(-500, 500)))), Holding("T", OTHER, Decimal(100))]
    value = price or Decimal(100)
    standing = Standing(
        state=draw(states), lock=draw(st.sampled_from(["", "x"])), max_weight=draw(st.none() | fractions)
    )
    book = LimitBook(rows)
    return Desk(
        limit=lambda name: book.find(name, "T", AAPL.con_id),
        now=NOW,
        standing=standing,
        quote=None if price is None else Quote(price, draw(st.sampled_from([1.0, 9_999.0]))),
        read_holdings=lambda: held,
        read_account=lambda: AccountFigures(net, excess, day_start),
        unit_value=lambda con_id, at: value if at is None else at,
        hours=draw(hours),
        reset_at=draw(st.none() | st.just(NOW + timedelta(minutes=1))),
    )


def facts(desk: Desk, position: Decimal, working: list[OpenOrder], **changes: Any) -> RiskFacts:
    """Return facts of a strategy that lost much and traded much today."""
    held = Holding("T", AAPL.con_id, position)
    before = desk.read_holdings
    whole = replace(desk, read_holdings=lambda: [*before(), held])
    given_limits = changes.pop("limits", {"max_daily_trades": 3, "max_daily_loss": 0.01})
    return RiskFacts(
        read_orders_today=lambda: 500,
        read_realized_today=lambda: Decimal(-5_000),
        read_equity=lambda: Decimal(10_000),
        read_position=lambda: position,
        read_open_orders=lambda: working,
        limits=given_limits,
        desk=whole,
        **changes,
    )


def order(kind: str, side: str, quantity: Decimal, price: Decimal) -> OrderDraft:
    """Return a draft with the prices that its type needs."""
    limit = price if "LMT" in kind or kind in ("LOC", "LIT") else None
    stop = price if kind in ("STP", "STP LMT", "MIT", "LIT", "TRAIL") else None
    return draft(str(quantity), side=side, order_type=kind, limit_price=limit, stop_price=stop)


def code_of(wanted: OrderDraft, known: RiskFacts) -> str:
    """Return the code of the refusal; empty when it passes."""
    try:
        check_order(wanted, known)
    except OrderDeniedError as error:
        return error.code
    return ""


@settings(max_examples=60, deadline=None)
@given(desks(), working_orders(), st.sampled_from(TYPES), st.integers(-400, 400).filter(bool), st.data())
def test_what_only_reduces_is_kept_in_by_nothing_but_form_and_conduct(
    desk: Desk, working: list[OpenOrder], kind: str, position: int, data: st.DataObject
) -> None:
    side = "SELL" if position > 0 else "BUY"
    beside = [one for one in working if (one.con_id, one.side, one.owner) != (AAPL.con_id, side, "T")]
    part = Decimal(data.draw(st.integers(1, abs(position))))
    found = code_of(order(kind, side, part, data.draw(prices)), facts(desk, Decimal(position), beside))
    assert found == "" or found in MAY_KEEP_IN


@settings(max_examples=80, deadline=None)
@given(
    desks(),
    working_orders(),
    st.sampled_from(TYPES),
    st.sampled_from(["BUY", "SELL"]),
    st.integers(-300, 300).map(Decimal),
    counts,
    counts,
    prices,
    st.booleans(),
)
def test_more_of_an_order_that_was_denied_is_denied_too(
    desk: Desk,
    working: list[OpenOrder],
    kind: str,
    side: str,
    position: Decimal,
    less: Decimal,
    more: Decimal,
    price: Decimal,
    calm: bool,
) -> None:
    def _facts() -> RiskFacts:
        known = facts(desk, position, working, limits={} if calm else {"max_daily_trades": 3})
        if calm:
            known.read_orders_today, known.read_realized_today = lambda: 0, lambda: Decimal(0)
        return known

    if code_of(order(kind, side, less, price), _facts()):
        assert code_of(order(kind, side, less + more, price), _facts())


@settings(max_examples=60, deadline=None)
@given(limits(), st.sampled_from(sorted(set(SPECS) - LISTED)), fractions)
def test_another_row_never_loosens_what_rows_say(rows: list[LimitRow], name: str, value: Decimal) -> None:
    before = LimitBook(rows).find(name, "T", AAPL.con_id)
    after = LimitBook([*rows, LimitRow(name, value, "T", AAPL.con_id)]).find(name, "T", AAPL.con_id)
    assert before is not None
    assert after is not None
    if before.source == "default":
        assert after.value == value  # the default holds only where no row applies
    elif SPECS[name].lower_is_tighter:
        assert after.value == min(before.value, value)
    else:
        assert after.value == max(before.value, value)


@settings(max_examples=60, deadline=None)
@given(counts, counts, st.integers(1, 100), st.sampled_from(["position_fraction", "gross_exposure", "net_exposure"]))
def test_two_orders_that_together_break_a_limit_do_not_both_pass(
    first: Decimal, second: Decimal, per_mille: int, name: str
) -> None:
    most = Decimal(per_mille) / 1000
    wide = [LimitRow(other, Decimal(100)) for other in ("order_notional_fraction", "position_fraction", "net_exposure")]
    rows = [row for row in [*wide, LimitRow("gross_exposure", Decimal(100))] if row.name != name]
    book = LimitBook([*rows, LimitRow(name, most)])
    desk = Desk(
        limit=lambda limit: book.find(limit, "T", AAPL.con_id),
        now=NOW,
        quote=Quote(Decimal(100), 1.0),
        read_holdings=list,
        read_account=lambda: AccountFigures(Decimal(100_000), Decimal(100_000), None),
        unit_value=lambda con_id, at: Decimal(100),
        hours=((NOW, NOW + timedelta(hours=1)),),
    )

    def _facts(working: list[OpenOrder]) -> RiskFacts:
        known = facts(desk, Decimal(0), working, limits={})
        known.read_orders_today, known.read_realized_today = lambda: 0, lambda: Decimal(0)
        return known

    one, two = order("MKT", "BUY", first, Decimal(100)), order("MKT", "BUY", second, Decimal(100))
    works = OpenOrder(AAPL.con_id, "BUY", first, "MKT", None, None, 60.0, owner="T")
    both = not code_of(one, _facts([])) and not code_of(two, _facts([works]))
    if both:
        assert (first + second) * 100 <= most * 100_000
    if (first + second) * 100 <= most * 100_000 and max(first, second) * 100 <= 50_000:
        assert both
