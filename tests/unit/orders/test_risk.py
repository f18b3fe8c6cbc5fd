"""Each check names itself, its limit, the value and who set it, and lets orders pass that only reduce."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from strategies.exceptions import LedgerError, OrderDeniedError
from tests.unit.orders.evidence import AAPL, NOW, draft
from trading.orders.drafts import FLATTEN
from trading.orders.facts import AccountFigures, Desk, Holding, OpenOrder, Quote, Standing
from trading.orders.limits import LimitBook, LimitRow
from trading.orders.margins import MarginBase, MarginView, MarginWanted
from trading.orders.risk import MAX_ACTIVE_PER_SIDE, RiskFacts, check_order
from trading.orders.trading_state import Override, OverrideAction, TradingState

OPEN = ((NOW - timedelta(hours=1), NOW + timedelta(hours=1)),)
AT_WORK = Standing()


def facts(
    *,
    today: int = 0,
    realized: str = "0",
    equity: str | None = "10000",
    position: str = "0",
    working: Sequence[OpenOrder] = (),
    desk: Desk | None = None,
    **limits: Any,
) -> RiskFacts:
    def _equity() -> Decimal:
        if equity is None:
            raise LedgerError("no marks")
        return Decimal(equity)

    return RiskFacts(
        read_orders_today=lambda: today,
        read_realized_today=lambda: Decimal(realized),
        read_equity=_equity,
        read_position=lambda: Decimal(position),
        read_open_orders=lambda: working,
        limits=limits,
        desk=desk,
    )


def desk(
    *rows: LimitRow,
    price: str | None = "100",
    age_s: float = 1.0,
    held: Sequence[Holding] = (),
    net: str = "1000000",
    excess: str | None = "900000",
    day_start: str | None = None,
    **changes: Any,
) -> Desk:
    """Return an engine's side in liquid hours: AAPL at 100, a million in the account, nothing held."""
    figures = AccountFigures(
        Decimal(net),
        None if excess is None else Decimal(excess),
        None if day_start is None else Decimal(day_start),
    )
    found = Desk(
        limit=lambda name: LimitBook(rows).find(name, "T", AAPL.con_id),
        now=NOW,
        quote=None if price is None else Quote(Decimal(price), age_s),
        read_holdings=lambda: held,
        read_account=lambda: figures,
        unit_value=lambda con_id, at: Decimal(price or 0) if at is None else at,
        hours=OPEN,
    )
    return replace(found, **changes)


def row(name: str, value: str, strategy: str = "T") -> LimitRow:
    return LimitRow(name, Decimal(value), strategy)


def working(age_s: float = 0.5, **changes: Any) -> OpenOrder:
    values: dict[str, Any] = {
        "con_id": AAPL.con_id,
        "side": "BUY",
        "quantity": Decimal(100),
        "order_type": "MKT",
        "limit_price": None,
        "stop_price": None,
        "age_s": age_s,
        "owner": "T",
    }
    return OpenOrder(**{**values, **changes})


def refusal(order: Any, known: RiskFacts) -> OrderDeniedError:
    with pytest.raises(OrderDeniedError) as caught:
        check_order(order, known)
    return caught.value


def denial(order: Any, known: RiskFacts) -> str:
    return refusal(order, known).code


def test_plain_order_passes() -> None:
    check_order(draft(), facts())
    check_order(draft(), facts(desk=desk()))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"quantity": 0}, "size_zero"),
        ({"order_type": "LMT"}, "price_missing"),
        ({"order_type": "LMT", "limit_price": Decimal(0)}, "price_missing"),
        ({"order_type": "STP"}, "price_missing"),
        ({"order_type": "VWAP"}, "order_type"),
        ({"order_type": "MOC", "algo_strategy": "Adaptive"}, "order_type"),
    ],
)
def test_malformed_order_is_denied(changes: dict[str, Any], code: str) -> None:
    assert denial(draft(**changes), facts()) == code


def test_twin_within_seconds_is_denied_and_a_later_or_different_one_is_not() -> None:
    assert denial(draft(), facts(working=[working()])) == "duplicate_order"
    half_filled = working(quantity=Decimal(40), ordered=Decimal(100))
    assert denial(draft(), facts(working=[half_filled])) == "duplicate_order"
    check_order(draft(), facts(working=[working(age_s=5)]))
    check_order(draft(), facts(working=[working(side="SELL")]))


def test_order_beyond_ibs_limit_of_working_ones_is_denied() -> None:
    many = [working(age_s=60)] * MAX_ACTIVE_PER_SIDE
    assert denial(draft(), facts(working=many)) == "too_many_working_orders"


def test_daily_trades_are_limited_but_a_reducing_order_passes() -> None:
    assert denial(draft(), facts(today=3, max_daily_trades=3)) == "max_daily_trades"
    check_order(draft(), facts(today=2, max_daily_trades=3))
    check_order(draft(side="SELL"), facts(today=9, max_daily_trades=3, position="100"))


def test_daily_loss_stops_new_risk_but_lets_reduce() -> None:
    lost: dict[str, Any] = {"realized": "-300", "equity": "9700", "max_daily_loss": 0.02}
    assert denial(draft(), facts(**lost)) == "max_daily_loss"
    check_order(draft(side="SELL"), facts(**lost, position="100"))
    assert denial(draft(150, side="SELL"), facts(**lost, position="100")) == "max_daily_loss"  # would turn short
    check_order(draft(), facts(realized="-100", equity="9900", max_daily_loss=0.02))


def test_unknown_equity_with_a_loss_limit_denies_new_risk() -> None:
    assert denial(draft(), facts(realized="-1", equity=None, max_daily_loss=0.02)) == "max_daily_loss"


def test_limits_that_are_not_set_ask_nothing() -> None:
    check_order(draft(), facts(equity=None, realized="-999999", max_daily_loss=None, max_daily_trades=None))


def test_two_sales_that_each_reduce_do_not_pass_together() -> None:
    both = facts(position="100", working=[working(60, side="SELL")], desk=desk(row("allow_short", "0")))
    assert denial(draft(side="SELL"), both) == "allow_short"


# limits with their sources


def test_refusal_carries_name_limit_value_and_source() -> None:
    error = refusal(draft(501), facts(desk=desk()))
    assert (error.code, error.fields["limit"], error.fields["value"], error.fields["source"]) == (
        "order_quantity",
        "500",
        "501",
        "default",
    )
    assert "[order_quantity limit=500 value=501 source=default]" in error.message
    assert refusal(draft(11), facts(desk=desk(row("order_quantity", "10")))).fields["source"] == "strategy"


BIG = row("order_quantity", "1000000")


@pytest.mark.parametrize(
    ("order", "given", "code"),
    [
        (draft(501), {}, "order_quantity"),
        (draft(500), {"price": "101"}, "order_notional"),
        (draft(500), {"net": "500000"}, "order_notional_fraction"),
        (draft(order_type="LMT", limit_price=Decimal("110.01")), {}, "price_collar"),
        (draft(order_type="LMT", limit_price=Decimal("89.99"), side="SELL"), {}, "price_collar"),
        (draft(), {"price": None}, "price_collar"),
        (draft(order_type="LMT", limit_price=Decimal(1)), {"price": None}, "price_collar"),
        (draft(), {"age_s": 61.0}, "quote_stale"),
        (draft(200), {"held": [Holding("T", AAPL.con_id, Decimal(801))]}, "position_fraction"),
        (draft(200), {"held": [Holding("U", AAPL.con_id, Decimal(801))]}, "position_fraction"),
        (draft(), {"held": [Holding("U", 7, Decimal(-15_000))]}, "gross_exposure"),
        (draft(), {"held": [Holding("U", 7, Decimal(9_950))]}, "net_exposure"),
        (draft(), {"excess": "49999"}, "margin_cushion"),
        (draft(), {"excess": None}, "margin_cushion"),
        (draft(), {"day_start": "1031000"}, "daily_loss_account"),
        (draft(), {"hours": ()}, "trading_window"),
        (draft(), {"hours": None}, "trading_window"),
        (draft(), {"reset_at": NOW + timedelta(minutes=4)}, "reset_near"),
        (draft(), {"standing": Standing(state=TradingState.HALTED)}, "halted"),
        (draft(), {"standing": Standing(state=TradingState.REDUCING)}, "reducing"),
        (draft(), {"standing": Standing(lock="earnings")}, "locked"),
        (draft(), {"standing": Standing(allow_list=frozenset({1}))}, "not_on_allow_list"),
        (draft(), {"standing": Standing(max_weight=Decimal("0.009"))}, "max_weight"),
        (draft(), {"standing": Standing(override=Override(OverrideAction.NO_TRADING))}, "override"),
    ],
)
def test_each_default_denies_what_breaks_it(order: Any, given: dict[str, Any], code: str) -> None:
    assert denial(order, facts(desk=desk(**given))) == code


@pytest.mark.parametrize(
    ("order", "given"),
    [
        (draft(500), {}),
        (draft(order_type="LMT", limit_price=Decimal(110)), {}),
        (draft(order_type="LMT", limit_price=Decimal(1)), {}),  # waits far below the market: it cannot fill badly
        (draft(), {"day_start": "1030000"}),
        (draft(), {"reset_at": NOW + timedelta(minutes=6)}),
        (draft(), {"reset_at": NOW - timedelta(minutes=1)}),
        (draft(), {"standing": Standing(allow_list=frozenset({AAPL.con_id}))}),
        (draft(), {"standing": Standing(max_weight=Decimal("0.01"))}),
    ],
)
def test_what_lies_within_the_limits_passes(order: Any, given: dict[str, Any]) -> None:
    check_order(order, facts(desk=desk(**given)))


HINDRANCES: list[dict[str, Any]] = [
    {"standing": Standing(state=TradingState.REDUCING)},
    {"standing": Standing(lock="earnings")},
    {"standing": Standing(allow_list=frozenset())},
    {"standing": Standing(override=Override(OverrideAction.REDUCE_ONLY))},
    {"hours": ()},
    {"excess": "0"},
    {"day_start": "2000000"},
    {"age_s": 3600.0},
    {"price": None},
    {"reset_at": NOW + timedelta(minutes=1)},
]


@pytest.mark.parametrize("given", HINDRANCES)
def test_nothing_keeps_anyone_in(given: dict[str, Any]) -> None:
    check_order(draft(600, side="SELL"), facts(position="600", desk=desk(**given)))


def test_halted_lets_not_even_a_reduction_pass_but_the_kill_switch() -> None:
    halted = desk(standing=Standing(state=TradingState.HALTED))
    assert denial(draft(side="SELL"), facts(position="100", desk=halted)) == "halted"
    check_order(draft(side="SELL", purpose=FLATTEN), facts(position="100", desk=halted))


def test_kill_switch_never_turns_a_position_around() -> None:
    order = draft(101, side="SELL", purpose=FLATTEN)
    assert denial(order, facts(position="100", desk=desk())) == "flatten_reverses"
    assert denial(draft(side="SELL", purpose=FLATTEN), facts(position="0", desk=desk())) == "flatten_reverses"


def test_working_orders_count_towards_a_position() -> None:
    waiting = [working(60, quantity=Decimal(400)), working(60, quantity=Decimal(450), limit_price=Decimal(99))]
    assert denial(draft(200), facts(working=waiting, desk=desk())) == "position_fraction"


def test_restricted_contract_may_be_left_but_not_entered() -> None:
    listed = LimitRow("restricted", Decimal(1), "", AAPL.con_id)
    assert denial(draft(), facts(desk=desk(listed))) == "restricted"
    check_order(draft(side="SELL"), facts(position="100", desk=desk(listed)))


def test_order_that_would_meet_another_strategys_is_held() -> None:
    other = working(60, side="SELL", owner="U", limit_price=Decimal(101), order_type="LMT")
    assert denial(draft(), facts(working=[other], desk=desk())) == "self_cross"
    below = draft(order_type="LMT", limit_price=Decimal(100))
    check_order(below, facts(working=[other], desk=desk()))
    check_order(draft(), facts(working=[replace(other, owner="T")], desk=desk()))


def test_the_two_hundred_and_first_order_of_a_day_holds_the_strategy() -> None:
    told: list[str] = []
    busy = desk(on_throttled=told.append)
    check_order(draft(), facts(today=199, desk=busy))
    assert denial(draft(), facts(today=200, desk=busy)) == "orders_per_day"
    assert told
    check_order(draft(side="SELL"), facts(today=200, position="100", desk=busy))


def test_margin_of_an_order_is_asked_only_where_it_is_set() -> None:
    asked = row("what_if_margin", "1")
    with pytest.raises(MarginWanted) as caught:
        check_order(draft(), facts(desk=desk(asked, read_margins=MarginView)))
    [move] = caught.value.moves
    assert (move.legs, move.units, move.held) == (((AAPL.con_id, 1),), Decimal(100), (Decimal(0),))
    small = MarginView(MarginBase(Decimal(900), Decimal(1000), {}), {move: Decimal(100)})
    check_order(draft(), facts(desk=desk(asked, read_margins=lambda: small)))
    large = replace(small, changes={move: Decimal(101)})
    refused = refusal(draft(), facts(desk=desk(asked, read_margins=lambda: large)))
    assert (refused.code, refused.fields["value"], refused.fields["source"]) == ("what_if_margin", "1001", "strategy")
    check_order(draft(side="SELL"), facts(position="100", desk=desk(asked, read_margins=lambda: large)))
    check_order(draft(), facts(desk=desk(read_margins=lambda: large)))


def test_margin_that_nobody_can_ask_denies() -> None:
    assert denial(draft(), facts(desk=desk(row("what_if_margin", "1")))) == "what_if_margin"


def test_times_of_hours_are_half_open() -> None:
    closing = ((NOW - timedelta(hours=1), NOW),)
    assert denial(draft(), facts(desk=desk(hours=closing))) == "trading_window"
    opening = ((NOW, NOW + timedelta(hours=1)),)
    check_order(draft(), facts(desk=desk(hours=opening)))
