"""A replayed day is held against the ledger's orders, each on the books of its moment; every difference is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from strategies.bar_series import BarSeries, moment_of
from strategies.reactive import ReactiveStrategy, Signal
from tests.support.backtests import BUY, CLOSE, SELL, D, minutes, spec_of
from trading.backtest.contracts import StrategyEntry
from trading.backtest.shadow import DIFFERENT, INCONCLUSIVE, SAME, Edit, Life, ShadowDay, ShadowReport, replay
from trading.backtest.shadow_record import Change, LiveOrder, Move, Record

SECOND = 1_000_000_000
BARS = 60
BUY_AT, SELL_AT = 20, 40


def bars() -> BarSeries:
    """Return an hour of minutes that rise by a cent each."""
    return minutes("X", [(100 + n / 100, 100.02 + n / 100, 99.98 + n / 100, 100 + n / 100) for n in range(BARS)])


ENDS = bars().whole()[0] + 60 * SECOND


class Planned(ReactiveStrategy):
    """Says what ``config["plan"]`` has for the number of the bar."""

    def get_subscriptions(self) -> Sequence[tuple[str, str]]:
        return [("X", "1m")]

    def on_bars(self, symbol: str, interval: str) -> Sequence[Signal] | None:
        assert self.context is not None
        assert self.context.mode == "live"
        signals: Sequence[Signal] | None = self.config["plan"].get(len(self.context.get_bars(symbol, interval)) - 1)
        return signals


ROUND: dict[int, list[Signal]] = {BUY_AT: [Signal("X", BUY, 10)], SELL_AT: [Signal("X", CLOSE)]}


def placed(row: int, side: str, quantity: int, after_s: float = 1.0, **changes: Any) -> LiveOrder:
    """Return an order that was placed some seconds after the end of a bar, and filled a second later."""
    at = int(ENDS[row] + after_s * SECOND)
    done = [Change(at + SECOND, False, D(0))]
    made = LiveOrder(f"X/{row}/{side}/{after_s}", "X", at, side, D(quantity), "MKT", state="filled", changes=done)
    return made._replace(**changes)


def filled(row: int, quantity: int, after_s: float = 2.0) -> Move:
    return Move(int(ENDS[row] + after_s * SECOND), "X", D(quantity))


def day_of(
    plan: Mapping[int, Sequence[Signal]], record: Record, make: Any = Planned, edits: Sequence[Edit] = (), **config: Any
) -> ShadowDay:
    settings = {"plan": plan, "min_quality": 0, "allow_short": False} | config
    entry = StrategyEntry("S", "reactive", make, settings, D(1))
    spec = spec_of([entry], [bars()])
    first, last = int(ENDS[0]), int(ENDS[-1])
    return ShadowDay(entry, [Life(first, last)], [spec], [*edits] or [Edit(0, 1, settings)], record, first, last)


def check(
    plan: Mapping[int, Sequence[Signal]], orders: Sequence[LiveOrder], moves: Sequence[Move] = (), **more: Any
) -> ShadowReport:
    equity = more.pop("equity", ())
    return replay(day_of(plan, Record(orders, moves, equity), **more))


BOUGHT, SOLD = placed(BUY_AT, "BUY", 10), placed(SELL_AT, "SELL", 10)
MOVES = [filled(BUY_AT, 10), filled(SELL_AT, -10)]


def kinds(report: ShadowReport) -> list[tuple[str, ...]]:
    return [row.kinds for row in report.rows]


def test_a_day_that_was_traded_as_the_code_says_is_the_same() -> None:
    report = check(ROUND, [BOUGHT, SOLD], MOVES)
    assert (report.verdict, kinds(report)) == (SAME, [(), ()])
    assert (report.bars, report.signals) == (BARS, 2)
    assert "BUY 10 MKT" in report.rows[0].live
    assert "BUY 10 MKT" in report.rows[0].replayed


def test_an_order_that_was_never_placed_is_missing() -> None:
    report = check(ROUND, [BOUGHT], MOVES[:1])
    assert (report.verdict, kinds(report)) == (DIFFERENT, [(), ("missing",)])
    assert report.rows[1].live == ""


def test_an_order_that_the_code_did_not_want_is_extra() -> None:
    report = check(ROUND, [BOUGHT, placed(30, "BUY", 5), SOLD], [*MOVES, filled(30, 5), filled(SELL_AT, -5)])
    assert ("extra",) in kinds(report)
    assert report.rows[1].ref == "X/30/BUY/1.0"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [({"quantity": D(11)}, "quantity"), ({"side": "SELL"}, "side"), ({"order_type": "LMT", "limit": D(100)}, "type")],
)
def test_what_differs_of_an_order_is_named(changes: dict[str, Any], kind: str) -> None:
    report = check({BUY_AT: ROUND[BUY_AT]}, [BOUGHT._replace(**changes)])
    assert kind in kinds(report)[0]


def test_another_limit_is_another_price_and_rounding_to_a_tick_is_none() -> None:
    plan = {BUY_AT: [Signal("X", BUY, 10, price=99.987)]}
    order = BOUGHT._replace(order_type="LMT", limit=D("99.98"))
    assert kinds(check(plan, [order])) == [()]
    assert kinds(check(plan, [order._replace(limit=D("99.96"))])) == [("price",)]


def test_a_late_order_is_the_same_order_at_another_time() -> None:
    late = placed(BUY_AT, "BUY", 10, after_s=200.0)
    report = check({BUY_AT: ROUND[BUY_AT]}, [late])
    assert kinds(report) == [("time",)]
    assert kinds(check({BUY_AT: ROUND[BUY_AT]}, [placed(BUY_AT, "BUY", 10, after_s=30.0)])) == [("time",)]


def test_protective_exits_are_compared() -> None:
    plan = {BUY_AT: [Signal("X", BUY, 10, stop_loss=99.0, take_profit=110.0)]}
    stop = placed(BUY_AT, "SELL", 10, 1.1, order_type="STP", stop=D(99), parent_ref=BOUGHT.ref)
    target = placed(BUY_AT, "SELL", 10, 1.2, order_type="LMT", limit=D(110), parent_ref=BOUGHT.ref)
    assert kinds(check(plan, [BOUGHT, stop, target])) == [()]
    assert kinds(check(plan, [BOUGHT, stop._replace(stop=D(98)), target])) == [("exits",)]
    assert kinds(check(plan, [BOUGHT, stop])) == [("exits",)]


# -- on the books of the moment


def test_one_missing_order_brings_no_others_for_positions_are_the_ledgers() -> None:
    """The purchase was never placed: the books were flat, and the close had nothing to close, live and replayed."""
    report = check(ROUND, [])
    assert kinds(report) == [("missing",)]


def test_a_position_from_the_day_before_is_closed() -> None:
    before = Move(int(ENDS[0]) - 86_400 * SECOND, "X", D(7))
    report = check({SELL_AT: ROUND[SELL_AT]}, [placed(SELL_AT, "SELL", 7)], [before, filled(SELL_AT, -7)])
    assert (report.verdict, kinds(report)) == (SAME, [()])


def test_a_signal_while_the_same_order_worked_is_refused_as_live() -> None:
    waiting = BOUGHT._replace(changes=[Change(int(ENDS[BUY_AT + 2]), False, D(0))])
    report = check({BUY_AT: ROUND[BUY_AT], BUY_AT + 1: ROUND[BUY_AT]}, [waiting])
    assert (report.verdict, dict(report.refused)) == (SAME, {"order_working": 1})


def test_a_fill_between_bar_and_order_counts() -> None:
    """Closed by hand a moment before: live the signal met flat books and ordered nothing."""
    by_hand = Move(int(ENDS[SELL_AT] + SECOND // 2), "X", D(-10))
    assert check(ROUND, [BOUGHT], [MOVES[0], by_hand]).verdict == SAME


def test_a_turn_is_compared_in_the_order_of_its_two_orders() -> None:
    plan = {BUY_AT: [Signal("X", CLOSE), Signal("X", BUY, 4)]}
    held = Move(int(ENDS[0]) - SECOND, "X", D(9))
    orders = [placed(BUY_AT, "SELL", 9, 1.0), placed(BUY_AT, "BUY", 4, 3.0)]
    moves = [held, filled(BUY_AT, -9, 2.0), filled(BUY_AT, 4, 4.0)]
    assert kinds(check(plan, orders, moves)) == [(), ()]


def test_an_order_that_was_denied_live_was_decided_all_the_same() -> None:
    denied = BOUGHT._replace(state="denied", changes=[Change(BOUGHT.placed_ns, False, D(10))])
    report = check({BUY_AT: ROUND[BUY_AT]}, [denied])
    assert report.verdict == SAME
    assert "denied" in report.rows[0].live


# -- quantities that hang on equity


def test_a_sized_entry_is_compared_by_the_equity_on_record() -> None:
    plan = {BUY_AT: [Signal("X", BUY)]}
    equity = [(int(ENDS[0]), D(10_000))]
    right, wrong = BOUGHT._replace(quantity=D(99)), BOUGHT._replace(quantity=D(50))
    assert kinds(check(plan, [right], equity=equity)) == [()]
    assert kinds(check(plan, [wrong], equity=equity)) == [("quantity",)]


def test_a_sized_entry_without_equity_on_record_is_not_compared_and_noted() -> None:
    report = check({BUY_AT: [Signal("X", BUY)]}, [BOUGHT._replace(quantity=D(3))])
    assert kinds(report) == [()]
    assert "1 quantities hang on an equity that is not on record" in report.notes[0]


def test_a_sale_from_flat_is_refused_where_shorts_are_not_allowed() -> None:
    report = check({BUY_AT: [Signal("X", SELL, 5)]}, [])
    assert (report.verdict, dict(report.refused)) == (SAME, {"short_not_allowed": 1})


# -- parameters and lives


class Sized(Planned):
    """Buys as much as its parameters say."""

    def on_bars(self, symbol: str, interval: str) -> Sequence[Signal] | None:
        assert self.context is not None
        count = len(self.context.get_bars(symbol, interval)) - 1
        return [Signal(symbol, BUY, self.config["size"])] if count in (BUY_AT, SELL_AT) else None


def test_parameters_that_drifted_are_detected() -> None:
    """Live it bought 10, but by what is on record it should have bought 12."""
    edits = [Edit(0, 1, {"size": 12, "min_quality": 0})]
    report = check({}, [placed(BUY_AT, "BUY", 10), placed(SELL_AT, "BUY", 10)], make=Sized, edits=edits)
    assert kinds(report) == [("quantity",), ("quantity",)]


def test_an_edit_during_the_day_holds_from_its_moment_on() -> None:
    edits = [Edit(0, 1, {"size": 10, "min_quality": 0}), Edit(int(ENDS[30]), 2, {"size": 12, "min_quality": 0})]
    orders = [placed(BUY_AT, "BUY", 10), placed(SELL_AT, "BUY", 12)]
    assert check({}, orders, make=Sized, edits=edits).verdict == SAME


def test_an_error_at_a_bar_is_noted_and_the_day_goes_on() -> None:
    class Failing(Planned):
        def on_bars(self, symbol: str, interval: str) -> Sequence[Signal] | None:
            assert self.context is not None
            if len(self.context.get_bars(symbol, interval)) == 5:
                raise ValueError("no")
            return super().on_bars(symbol, interval)

    report = check(ROUND, [BOUGHT, SOLD], MOVES, make=Failing)
    assert report.verdict == SAME
    assert "ValueError: no" in report.notes[0]


def test_a_strategy_that_cannot_be_set_up_is_inconclusive() -> None:
    class Refusing(Planned):
        def setup(self, context: Any) -> bool:
            return False

    report = check({}, [], make=Refusing)
    assert report.verdict == INCONCLUSIVE
    assert "cannot run" in report.reasons[0]


def test_two_lives_of_a_day_begin_anew() -> None:
    class Once(Planned):
        is_in = False

        def on_bars(self, symbol: str, interval: str) -> Sequence[Signal] | None:
            if self.is_in:
                return None
            self.is_in = True
            return [Signal(symbol, BUY, 10)]

    orders = [placed(0, "BUY", 10), placed(31, "BUY", 10)]
    whole = day_of({}, Record(orders), make=Once)
    middle = int(ENDS[30])
    lives = [Life(whole.first_ns, middle), Life(middle + 1, whole.last_ns)]
    specs = [replace(whole.specs[0], start=moment_of(one.begin_ns), end=moment_of(one.end_ns)) for one in lives]
    specs[1] = replace(specs[1], bars={("X", "1m"): bars()}, start=moment_of(int(ENDS[31])))
    report = replay(replace(whole, lives=lives, specs=specs))
    assert (report.verdict, len(report.rows)) == (SAME, 2)


def test_signals_before_the_day_are_not_compared() -> None:
    day = day_of(ROUND, Record([SOLD], [filled(BUY_AT, 10), filled(SELL_AT, -10)]))
    report = replay(replace(day, first_ns=int(ENDS[30])))
    assert (report.verdict, kinds(report), report.signals) == (SAME, [()], 1)


def test_orders_of_other_days_are_not_extra() -> None:
    yesterday = int(ENDS[0]) - 86_400 * SECOND
    old = BOUGHT._replace(placed_ns=yesterday, ref="old", changes=[Change(yesterday, False, D(0))])
    assert check(ROUND, [old, BOUGHT, SOLD], MOVES).verdict == SAME


def test_a_record_tells_what_worked_and_what_was_held_at_a_moment() -> None:
    order = LiveOrder("r", "X", 100, "BUY", D(10), "LMT", changes=[Change(150, True, D(6)), Change(200, False, D(0))])
    record = Record([order], [Move(150, "X", D(4)), Move(200, "X", D(6))])
    assert [order.left_at(at) for at in (99, 100, 150, 199, 200)] == [D(0), D(10), D(6), D(6), D(0)]
    assert [record.held("X", at) for at in (149, 150, 200)] == [D(0), D(4), D(10)]
    assert (record.held("Y", 1), record.symbols_held(160)) == (D(0), ["X"])
    assert np.all([left == D(6) for _, left in record.working(160)])
