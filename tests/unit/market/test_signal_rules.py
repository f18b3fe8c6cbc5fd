"""What a signal asks for and what refuses it, the rules alone: the last line before an order is made."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from strategies.exceptions import ConfigError, OrderDeniedError
from strategies.reactive import Signal, SignalAction
from trading.market.signal_rules import Gates, KnownFacts, Plan, gates_of, plan_signal

BUY, SELL, CLOSE = SignalAction.BUY, SignalAction.SELL, SignalAction.CLOSE
FLAT = KnownFacts(price=Decimal(50), equity=Decimal(10_000))
LONG = replace(FLAT, held=Decimal(100))
SHORT = replace(FLAT, held=Decimal(-100))


def plan(signal: Signal, facts: KnownFacts = FLAT, **gates: Any) -> Plan:
    found = plan_signal(signal, facts, Gates(**gates))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("signal", "facts", "gates", "code"),
    [
        (Signal("A", BUY, 0), FLAT, {}, "bad_quantity"),
        (Signal("A", BUY, -5), FLAT, {}, "bad_quantity"),
        (Signal("A", BUY, Decimal("NaN")), FLAT, {}, "bad_quantity"),
        (Signal("A", BUY, 7), replace(FLAT, lot=Decimal(10)), {}, "bad_lot"),
        (Signal("A", BUY), replace(FLAT, equity=None), {}, "no_equity"),
        (Signal("A", BUY), replace(FLAT, price=None), {}, "no_price"),
        (Signal("A", BUY), replace(FLAT, price=Decimal(0)), {}, "no_price"),
        (Signal("A", BUY), replace(FLAT, equity=Decimal(49)), {}, "zero_quantity"),
        (Signal("A", BUY), replace(FLAT, other_value=Decimal(99)), {"max_buying_power": Decimal(99)}, "zero_quantity"),
        (Signal("A", SELL), FLAT, {}, "short_not_allowed"),
        (Signal("A", SELL, 5), FLAT, {}, "short_not_allowed"),
        (Signal("A", SELL, 5), replace(LONG, selling=Decimal(100)), {}, "short_not_allowed"),
        (Signal("A", BUY, 5), replace(FLAT, quality=94.9), {"minimum_quality": 95.0}, "low_quality"),
        (Signal("A", BUY, 5), replace(FLAT, other_positions=3), {"max_open_positions": 3}, "max_open_positions"),
        (Signal("A", BUY, 5), replace(FLAT, price=None), {"max_per_trade": Decimal(9)}, "no_price"),
        (Signal("A", BUY, 5), FLAT, {"max_per_trade": Decimal(249)}, "max_per_trade"),
        (Signal("A", BUY, 5), LONG, {"max_per_symbol": Decimal(5_249)}, "max_per_symbol"),
        (Signal("A", BUY, 5), replace(FLAT, buying=Decimal(5)), {"max_per_symbol": Decimal(499)}, "max_per_symbol"),
        (Signal("A", BUY, 5), replace(FLAT, other_value=Decimal(800)), {"max_buying_power": Decimal(1_049)},
         "max_buying_power"),
    ],
)  # fmt: skip
def test_what_cannot_or_may_not_be_is_refused_by_its_code(
    signal: Signal, facts: KnownFacts, gates: dict[str, Any], code: str
) -> None:
    with pytest.raises(OrderDeniedError) as caught:
        plan_signal(signal, facts, Gates(**gates))
    assert caught.value.code == code


def test_bounds_hold_to_the_cent() -> None:
    exact = {"max_per_trade": Decimal(250), "max_per_symbol": Decimal(5_250), "max_buying_power": Decimal(5_250)}
    assert plan(Signal("A", BUY, 5), LONG, **exact).quantity == 5


def test_action_that_is_none_is_refused() -> None:
    with pytest.raises(OrderDeniedError) as caught:
        plan_signal(Signal("A", "MAYBE", 1), FLAT, Gates())  # type: ignore[arg-type]
    assert caught.value.code == "unknown_action"


def test_reductions_pass_gates_that_bound_entries() -> None:
    gates = {"minimum_quality": 95.0, "max_per_trade": Decimal(1), "max_open_positions": 0}
    assert plan(Signal("A", SELL, 60), replace(LONG, quality=10.0), **gates).quantity == -60
    assert plan(Signal("A", CLOSE), replace(SHORT, quality=10.0), **gates).quantity == 100


@pytest.mark.parametrize(
    ("facts", "quantity", "found"), [(LONG, 30, -30), (LONG, 300, -100), (SHORT, 30, 30), (SHORT, 300, 100)]
)
def test_close_with_a_quantity_goes_towards_flat_and_never_beyond(facts: KnownFacts, quantity: int, found: int) -> None:
    assert plan(Signal("A", CLOSE, quantity), facts).quantity == found


def test_close_of_nothing_takes_working_entries_back_and_a_close_on_its_way_is_not_repeated() -> None:
    taken_back = plan(Signal("A", CLOSE), replace(FLAT, buying=Decimal(5)))
    assert (taken_back.quantity, taken_back.cancel_working) == (Decimal(0), True)
    assert plan_signal(Signal("A", CLOSE), FLAT, Gates()) is None
    assert plan_signal(Signal("A", CLOSE), replace(LONG, closing=Decimal(100)), Gates()) is None


@pytest.mark.parametrize(
    ("action", "stop_loss", "take_profit", "found"),
    [
        (BUY, 48.504, 55.004, (Decimal("48.51"), Decimal("55.01"))),
        (SELL, 52.006, 45.006, (Decimal("52.00"), Decimal("45.00"))),
    ],
)
def test_exits_are_put_on_the_tick(
    action: SignalAction, stop_loss: float, take_profit: float, found: tuple[Decimal, Decimal]
) -> None:
    signal = Signal("A", action, 10, stop_loss=stop_loss, take_profit=take_profit)
    made = plan(signal, replace(FLAT, tick=Decimal("0.01")), allow_short=True)
    assert (made.stop_loss, made.take_profit) == found


@pytest.mark.parametrize(
    ("action", "stop_loss", "take_profit"),
    [(BUY, 50, None), (BUY, None, 50), (BUY, 56, 55), (SELL, 49, None), (SELL, None, 51)],
)
def test_exits_on_the_wrong_side_are_refused(
    action: SignalAction, stop_loss: float | None, take_profit: float | None
) -> None:
    signal = Signal("A", action, 10, stop_loss=stop_loss, take_profit=take_profit)
    with pytest.raises(OrderDeniedError, match="must lie on both sides"):
        plan_signal(signal, FLAT, Gates(allow_short=True))


def test_gates_come_from_strategy_and_session_and_the_tighter_share_counts() -> None:
    config = {"position_size": 0.5, "max_position_size": 0.25, "min_quality": 90, "max_quantity": 10}
    found = gates_of(config, allow_short=True, trading={"max_per_trade": 5_000, "max_open_positions": 2})
    assert (found.fraction, found.minimum_quality, found.max_quantity) == (Decimal("0.25"), 90.0, Decimal(10))
    assert (found.max_per_trade, found.max_per_symbol, found.max_open_positions) == (Decimal(5_000), None, 2)
    assert (found.allow_short, found.are_tight) == (True, True)
    assert not gates_of({}, allow_short=False).are_tight


@pytest.mark.parametrize("value", [-1, "much", float("nan"), float("inf")])
def test_gate_that_is_no_number_is_refused_by_its_name(value: Any) -> None:
    with pytest.raises(ConfigError, match="max_quantity"):
        gates_of({"max_quantity": value}, allow_short=True)
