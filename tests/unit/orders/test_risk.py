"""Each check names itself and lets orders pass that only reduce."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from strategies.exceptions import LedgerError, OrderDeniedError
from tests.unit.orders.evidence import AAPL, draft
from trading.orders.risk import MAX_ACTIVE_PER_SIDE, OpenOrder, RiskFacts, check_order


def facts(
    *,
    today: int = 0,
    realized: str = "0",
    equity: str | None = "10000",
    position: str = "0",
    working: Sequence[OpenOrder] = (),
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
    )


def working(age_s: float = 0.5, **changes: Any) -> OpenOrder:
    values: dict[str, Any] = {
        "con_id": AAPL.con_id,
        "side": "BUY",
        "quantity": Decimal(100),
        "order_type": "MKT",
        "limit_price": None,
        "stop_price": None,
        "age_s": age_s,
    }
    return OpenOrder(**{**values, **changes})


def denial(order: Any, known: RiskFacts) -> str:
    with pytest.raises(OrderDeniedError) as caught:
        check_order(order, known)
    return caught.value.code


def test_plain_order_passes() -> None:
    check_order(draft(), facts())


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
