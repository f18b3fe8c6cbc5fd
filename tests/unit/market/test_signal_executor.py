"""SignalExecutor: signals are carried out one by one on fresh facts, and every refusal is told and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest

from strategies.exceptions import LedgerError, OrderDeniedError, TransientError
from strategies.reactive import TARGET, Signal, SignalAction
from trading.market.signal_executor import SignalExecutor
from trading.market.signal_rules import Gates, KnownFacts, Plan

BUY, SELL, HOLD, CLOSE = SignalAction.BUY, SignalAction.SELL, SignalAction.HOLD, SignalAction.CLOSE


@dataclass
class Desk:
    """An order port over one symbol: market orders fill at once, others work; exits are kept apart."""

    held: Decimal = Decimal(0)
    price: Decimal | None = Decimal(50)
    equity: Decimal | None = Decimal(10_000)
    quality: float = 100.0
    works: dict[str, Decimal] = field(default_factory=dict)  # BUY and SELL
    exits: Decimal = Decimal(0)
    others: tuple[Decimal, int] = (Decimal(0), 0)
    log: list[str] = field(default_factory=list)
    fails: dict[str, Exception] = field(default_factory=dict)
    fill_while_withdrawing: Decimal = Decimal(0)
    fills_at_once: bool = True

    async def facts(self, symbol: str, interval: str, gates: Gates) -> KnownFacts:
        self._fail("facts")
        return KnownFacts(
            held=self.held,
            buying=self.works.get("BUY", Decimal(0)),
            selling=self.works.get("SELL", Decimal(0)),
            price=self.price,
            equity=self.equity,
            quality=self.quality,
            other_value=self.others[0],
            other_positions=self.others[1],
        )

    async def withdraw(self, symbol: str, *, exits_only: bool) -> None:
        self._fail("withdraw")
        self.log.append("withdraw exits" if exits_only else "withdraw all")
        self.held += self.fill_while_withdrawing
        self.exits = Decimal(0)
        if not exits_only:
            self.works.clear()

    async def has_exits(self, symbol: str) -> bool:
        return bool(self.exits)

    async def shrink_exits(self, symbol: str, quantity: Decimal) -> None:
        self.log.append(f"shrink to {quantity:f}")
        self.exits = min(self.exits, quantity)

    async def place(self, symbol: str, plan: Plan, signal: Signal) -> None:
        self._fail("place")
        self.log.append(f"{plan.quantity:+f} {plan.terms.order_type}")
        if plan.terms.order_type == "MKT" and self.fills_at_once:
            self.held += plan.quantity
            self.exits = plan.opens if plan.stop_loss or plan.take_profit else self.exits
        else:
            side = "BUY" if plan.quantity > 0 else "SELL"
            self.works[side] = self.works.get(side, Decimal(0)) + abs(plan.quantity)

    def _fail(self, what: str) -> None:
        if what in self.fails:
            raise self.fails[what]


class Bench:
    """One executor over a desk, with what it told."""

    def __init__(self, gates: Gates | None = None, *, allow_repeats: bool = False, **desk: Any) -> None:
        self.desk = Desk(**desk)
        self.told: list[tuple[str, str]] = []
        self.executor = SignalExecutor(
            "ALPHA",
            self.desk,
            gates or Gates(),
            lambda text, level: self.told.append((level, text)),
            allow_repeats=allow_repeats,
        )

    async def say(self, *signals: Signal) -> dict[str, Any]:
        await self.executor.execute("5m", signals)
        return self.executor.figures.as_dict()


def signal(action: SignalAction, quantity: Any = None, **fields: Any) -> Signal:
    return Signal("AAPL", action, quantity, **fields)


async def test_hold_asks_nobody_for_anything() -> None:
    bench = Bench(fails={"facts": RuntimeError("not to be asked")})
    figures = await bench.say(signal(HOLD))
    assert (figures["received"], figures["hold"], figures["traded"]) == (1, 1, 0)


async def test_sized_buy_is_placed_as_it_is() -> None:
    bench = Bench()
    figures = await bench.say(signal(BUY, 7))
    assert bench.desk.log == ["+7 MKT"]
    assert figures["traded"] == 1
    assert bench.told == []


async def test_unsized_buy_takes_the_gates_share_of_equity_once() -> None:
    bench = Bench(Gates(fraction=Decimal("0.5")))
    figures = await bench.say(signal(BUY), signal(BUY))
    assert bench.desk.log == ["+100 MKT"]
    assert (figures["traded"], figures["idle"]) == (1, 1)


async def test_signals_of_one_bar_see_what_those_before_them_did() -> None:
    bench = Bench()
    await bench.say(signal(BUY, 10), signal(SELL), signal(BUY, 4), signal(CLOSE))
    assert bench.desk.log == ["+10 MKT", "-10 MKT", "+4 MKT", "withdraw all", "-4 MKT"]
    assert bench.desk.held == 0


async def test_sale_from_flat_is_refused_told_and_counted() -> None:
    bench = Bench()
    figures = await bench.say(signal(SELL, 5), signal(SELL))
    assert bench.desk.log == []
    assert figures["refused_by_code"] == {"short_not_allowed": 2}
    assert [level for level, _ in bench.told] == ["warning", "warning"]
    assert "Signal refused (1 so far): SELL 5 AAPL" in bench.told[0][1]
    assert "(2 so far): SELL AAPL" in bench.told[1][1]
    assert figures["last_refusal"].startswith("SELL AAPL: ")


async def test_sale_from_flat_is_a_short_where_shorts_are_allowed() -> None:
    bench = Bench(Gates(allow_short=True))
    await bench.say(signal(SELL, 5))
    assert bench.desk.held == -5


@pytest.mark.parametrize(
    ("gates", "code"),
    [
        (Gates(minimum_quality=99.0), "low_quality"),
        (Gates(max_quantity=Decimal(5)), "max_quantity"),
        (Gates(max_per_trade=Decimal(400)), "max_per_trade"),
        (Gates(max_per_symbol=Decimal(400)), "max_per_symbol"),
        (Gates(max_buying_power=Decimal(1_400)), "max_buying_power"),
        (Gates(max_open_positions=2), "max_open_positions"),
    ],
)
async def test_every_gate_refuses_by_its_name(gates: Gates, code: str) -> None:
    bench = Bench(gates, quality=98.0, others=(Decimal(1_000), 2))
    figures = await bench.say(signal(BUY, 10))
    assert figures["refused_by_code"] == {code: 1}
    assert bench.desk.log == []


async def test_what_closes_passes_the_gates() -> None:
    bench = Bench(Gates(minimum_quality=99.0, max_quantity=Decimal(1)), quality=0.0, held=Decimal(10))
    await bench.say(signal(CLOSE))
    assert bench.desk.held == 0


async def test_low_quality_ends_when_the_bars_are_whole_again() -> None:
    bench = Bench(Gates(minimum_quality=95.0), quality=94.0)
    await bench.say(signal(BUY, 1))
    bench.desk.quality = 95.0
    figures = await bench.say(signal(BUY, 1))
    assert (figures["traded"], figures["refused"]) == (1, 1)


async def test_second_sized_order_of_a_side_waits_for_the_first_unless_said() -> None:
    bench = Bench()
    limit = signal(BUY, 3, price=40)
    figures = await bench.say(limit, limit, signal(BUY, 1))
    assert bench.desk.log == ["+3 LMT"]
    assert figures["refused_by_code"] == {"order_working": 2}
    repeats = Bench(allow_repeats=True)
    await repeats.say(limit, limit)
    assert repeats.desk.log == ["+3 LMT", "+3 LMT"]


async def test_order_of_the_other_side_is_no_repeat() -> None:
    bench = Bench(held=Decimal(10))
    await bench.say(signal(SELL, 3, price=60), signal(BUY, 2, price=40))
    assert bench.desk.log == ["-3 LMT", "+2 LMT"]


async def test_close_takes_working_orders_back_first() -> None:
    bench = Bench(held=Decimal(10), works={"BUY": Decimal(5)})
    await bench.say(signal(CLOSE))
    assert bench.desk.log == ["withdraw all", "-10 MKT"]


async def test_close_counts_a_fill_that_came_while_orders_were_taken_back() -> None:
    bench = Bench(held=Decimal(10), works={"BUY": Decimal(5)}, fill_while_withdrawing=Decimal(5))
    await bench.say(signal(CLOSE))
    assert bench.desk.log == ["withdraw all", "-15 MKT"]
    assert bench.desk.held == 0


async def test_close_of_nothing_but_orders_takes_them_back_and_trades_nothing() -> None:
    bench = Bench(works={"BUY": Decimal(5)})
    figures = await bench.say(signal(CLOSE), signal(CLOSE))
    assert bench.desk.log == ["withdraw all"]
    assert (figures["traded"], figures["idle"]) == (0, 2)


async def test_exits_end_before_the_order_that_closes_what_they_protect() -> None:
    bench = Bench()
    await bench.say(signal(BUY, 10, stop_loss=45, take_profit=60))
    assert bench.desk.exits == 10
    await bench.say(signal(SELL))
    assert bench.desk.log == ["+10 MKT", "withdraw exits", "-10 MKT"]


async def test_exit_that_filled_meanwhile_leaves_nothing_to_sell() -> None:
    bench = Bench(held=Decimal(10), exits=Decimal(10), fill_while_withdrawing=Decimal(-10))
    figures = await bench.say(signal(SELL))
    assert bench.desk.log == ["withdraw exits"]
    assert figures["refused_by_code"] == {"short_not_allowed": 1}
    assert bench.desk.held == 0


async def test_exits_are_made_smaller_before_a_part_is_sold() -> None:
    bench = Bench(held=Decimal(10), exits=Decimal(10))
    await bench.say(signal(SELL, 4))
    assert bench.desk.log == ["shrink to 6", "-4 MKT"]


async def test_exits_stay_when_the_position_grows() -> None:
    bench = Bench(held=Decimal(10), exits=Decimal(10))
    await bench.say(signal(BUY, 4))
    assert bench.desk.log == ["+4 MKT"]


async def test_reversal_ends_the_exits_of_the_old_side() -> None:
    bench = Bench(Gates(allow_short=True), held=Decimal(10), exits=Decimal(10))
    await bench.say(signal(SELL, 15))
    assert bench.desk.log == ["withdraw exits", "-15 MKT"]
    assert bench.desk.held == -5


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("facts", LedgerError("The ledger is behind.", code="ledger_behind")),
        ("facts", TransientError("IB does not answer.", code="no_answer")),
        ("withdraw", OrderDeniedError("It could not be cancelled.", code="order_working")),
        ("place", OrderDeniedError("The gate is shut.", code="not_reconciled")),
    ],
)
async def test_whatever_stands_in_the_way_refuses_this_signal_and_not_the_next(where: str, error: Any) -> None:
    bench = Bench(held=Decimal(10), fails={where: error})
    await bench.say(signal(CLOSE))
    bench.desk.fails.clear()
    figures = await bench.say(signal(CLOSE))
    assert figures["refused_by_code"] == {error.code: 1}
    assert figures["traded"] == 1
    assert error.message in bench.told[0][1]


async def test_denial_that_is_on_record_is_counted_and_not_told_twice() -> None:
    denied = OrderDeniedError("More than a limit allows.", code="order_quantity", order_ref="ALPHA/1")
    bench = Bench(fails={"place": denied})
    figures = await bench.say(signal(BUY, 1))
    assert figures["refused_by_code"] == {"order_quantity": 1}
    assert bench.told == []


async def test_fault_of_our_own_is_not_taken_for_a_refusal() -> None:
    bench = Bench(fails={"facts": ZeroDivisionError()})
    with pytest.raises(ZeroDivisionError):
        await bench.say(signal(BUY, 1))


async def test_wish_that_was_cut_is_told() -> None:
    bench = Bench(held=Decimal(10))
    await bench.say(signal(SELL, 15))
    assert bench.desk.log == ["-10 MKT"]
    assert bench.told == [("info", "SELL 15 AAPL: cut from 15 to the 10 held: going short is not allowed.")]


@pytest.mark.parametrize("bad", [0, -5, "many", True, Decimal("NaN")])
async def test_quantity_that_is_none_is_refused(bad: Any) -> None:
    bench = Bench()
    figures = await bench.say(signal(BUY, bad))
    assert figures["refused_by_code"] == {"bad_quantity": 1}


async def test_unknown_equity_refuses_what_must_be_sized_and_nothing_else() -> None:
    bench = Bench(equity=None)
    figures = await bench.say(signal(BUY), signal(BUY, 2))
    assert figures["refused_by_code"] == {"no_equity": 1}
    assert bench.desk.log == ["+2 MKT"]


async def test_gates_can_be_changed_while_it_works() -> None:
    bench = Bench()
    bench.executor.gates = replace(bench.executor.gates, max_quantity=Decimal(1))
    figures = await bench.say(signal(BUY, 2))
    assert figures["refused_by_code"] == {"max_quantity": 1}


async def test_figures_add_up_whatever_came() -> None:
    bench = Bench(Gates(max_quantity=Decimal(50)))
    mixed: Sequence[Signal] = [
        signal(HOLD),
        signal(BUY, 10),
        signal(BUY),
        signal(SELL, 99),
        signal(CLOSE),
        signal(BUY, 60),
    ]
    figures = await bench.say(*mixed)
    parts = figures["traded"] + figures["hold"] + figures["idle"] + figures["refused"]
    assert figures["received"] == parts == 6


def aims(target: int, action: SignalAction = BUY, quantity: int = 100) -> Signal:
    return signal(action, quantity, metadata={TARGET: Decimal(target)})


@pytest.mark.parametrize(
    ("held", "target", "log"),
    [
        (0, 100, ["+100 MKT"]),
        (100, 100, []),  # a restart: it was bought in an earlier life
        (100, 0, ["-100 MKT"]),
        (-40, 100, ["+140 MKT"]),
        (100, -30, ["-130 MKT"]),
        (0, 0, []),
    ],
)
async def test_target_is_reached_from_what_is_held(held: int, target: int, log: list[str]) -> None:
    bench = Bench(Gates(allow_short=True), held=Decimal(held))
    figures = await bench.say(aims(target), aims(target))
    assert bench.desk.log == log
    assert bench.desk.held == target
    assert (figures["traded"], figures["idle"]) == (len(log), 2 - len(log))


async def test_orders_on_their_way_to_the_target_are_left_alone_and_others_taken_back() -> None:
    bench = Bench(works={"BUY": Decimal(100)})
    await bench.say(aims(100))
    assert bench.desk.log == []
    bench.desk.fill_while_withdrawing = Decimal(30)
    await bench.say(aims(50))
    assert bench.desk.log == ["withdraw all", "+20 MKT"]


async def test_target_is_bounded_like_any_signal() -> None:
    bench = Bench(Gates(max_quantity=Decimal(50)))
    figures = await bench.say(aims(100))
    assert figures["refused_by_code"] == {"max_quantity": 1}
    assert bench.desk.log == []
