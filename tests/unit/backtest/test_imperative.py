"""Imperative strategies in a run: the same orders as reactive ones, on a clock that only the bars move."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from ib_async import Contract, Fill, RealTimeBar, Stock, Trade

from strategies.bar_series import BarSeries, moment_of
from strategies.base import BaseStrategy
from strategies.exceptions import ConfigError, OrderDeniedError, StrategyError
from strategies.reactive import Signal
from tests.support.backtests import BUY, FREE, SELL, Row, days, fills_of, flat, minutes, play, scripted, spec_of
from trading.backtest.contracts import BacktestResult, Models, StrategyEntry
from trading.backtest.engine import run_backtest

X = Stock("X", "SMART", "USD")
Act = Callable[["Told", Contract], Awaitable[Any]]


class Told(BaseStrategy):
    """Does ``plan[n]`` at the n-th bar, counted from 0, and notes what it hears; lives from the first bar's end on."""

    async def initialize_strategy(self) -> None:
        self.count, self.heard = 1, list[Any]()
        self.subscribe_bars(await self.qualify(X))

    async def run_strategy(self) -> None:
        await self.until_stopped()

    async def on_bar(self, contract: Contract, bar: RealTimeBar) -> None:
        act = self.params["plan"].get(self.count)
        self.count += 1
        if act is not None:
            await act(self, contract)

    def on_fill(self, trade: Trade, fill: Fill) -> None:
        self.heard.append((self.now(), fill.execution.shares, fill.execution.price, trade.order.orderRef))


def entry(cls: type[BaseStrategy], name: str = "S", cash: str | int = 100_000, **params: Any) -> StrategyEntry:
    return StrategyEntry(name, "imperative", cls, params, Decimal(cash))


def run(entries: Sequence[StrategyEntry], *bars: BarSeries, models: Models = FREE, **changes: Any) -> BacktestResult:
    return run_backtest(spec_of(entries, bars, models, **changes))


def told(plan: dict[int, Act], bars: BarSeries, **changes: Any) -> BacktestResult:
    result = run([entry(Told, plan=plan)], bars, **changes)
    assert result.strategies["S"].errors == []
    return result


WAVES: list[Row] = [
    flat(100),
    flat(100),
    (101, 106, 95, 103),
    (104, 108, 99, 107),
    (90, 112, 88, 91),
    flat(92),
    flat(93),
]

SAME: dict[str, tuple[Signal, Act]] = {
    "market": (Signal("X", BUY, 10), lambda s, c: s.place_order(c, 10)),
    "limit": (
        Signal("X", BUY, 10, price=96.5, tif="GTC"),
        lambda s, c: s.place_order(c, 10, "LMT", limit=96.5, tif="GTC"),
    ),
    "stop": (
        Signal("X", BUY, 10, order_type="STP", stop=105.5, tif="GTC"),
        lambda s, c: s.place_order(c, 10, "STP", stop=105.5, tif="GTC"),
    ),
    "at the close": (Signal("X", BUY, 10, order_type="MOC"), lambda s, c: s.place_order(c, 10, "MOC")),
    "short": (Signal("X", SELL, 10), lambda s, c: s.place_order(c, -10)),
    "bracket": (
        Signal("X", BUY, 10, stop_loss=89, take_profit=111),
        lambda s, c: s.place_bracket(c, 10, take_profit=111, stop_loss=89),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_an_order_meets_the_market_as_that_of_a_reactive_strategy(name: str) -> None:
    signal, act = SAME[name]
    bars = days("X", [*WAVES, *WAVES])
    reactive, imperative = play({1: [signal]}, bars), told({1: act}, bars)
    assert [fill[:6] for fill in imperative.fills] == [fill[:6] for fill in reactive.fills] != []
    # A bracket's exits have their numbers the other way round.
    assert sorted(one[3:12] for one in imperative.orders) == sorted(one[3:12] for one in reactive.orders)
    assert imperative.strategies["S"].equity == reactive.strategies["S"].equity
    assert imperative.strategies["S"].equity_curve.tolist() == reactive.strategies["S"].equity_curve.tolist()


def test_a_fill_is_told_after_its_bar_with_its_price_and_its_order() -> None:
    seen: list[BaseStrategy] = []

    async def act(strategy: Told, contract: Contract) -> None:
        seen.append(strategy)
        ticket = await strategy.place_order(contract, 10)
        assert (ticket.order_ref, ticket.trade.orderStatus.status, ticket.is_done) == ("S/00000001", "Submitted", False)
        assert await ticket.wait_done(7 * 86_400)
        assert ticket.trade.orderStatus.status == "Filled"
        assert await strategy.get_position(contract) == 10
        [position] = await strategy.get_positions()
        assert (position.symbol, position.average_cost, position.mark) == ("X", Decimal(101), Decimal(103))

    result = told({1: act}, days("X", WAVES))
    assert fills_of(result) == [("10", "101")]
    [strategy] = seen
    assert isinstance(strategy, Told)
    assert strategy.heard == [(datetime(2024, 1, 4, 21, tzinfo=UTC), 10, 101, "S/00000001")]


def test_one_order_s_fill_takes_the_others_of_its_group_back() -> None:
    async def act(strategy: Told, contract: Contract) -> None:
        both = {"contract": contract, "quantity": 10, "tif": "GTC"}
        await strategy.place_oco([{**both, "limit": 96}, {**both, "order_type": "STP", "stop": 107}])

    result = told({1: act}, days("X", WAVES))
    assert fills_of(result) == [("10", "96")]
    assert [(one.order_type, one.state) for one in result.orders] == [("LMT", "filled"), ("STP", "cancelled")]


def test_a_working_order_is_changed_and_taken_back() -> None:
    tickets = []

    async def place(strategy: Told, contract: Contract) -> None:
        tickets.append(await strategy.place_order(contract, 10, "LMT", limit=50, tif="GTC"))
        tickets.append(await strategy.place_order(contract, 5, "LMT", limit=51, tif="GTC"))

    async def change(strategy: Told, contract: Contract) -> None:
        await strategy.modify_order(tickets[0], limit=100, quantity=7)
        await strategy.cancel_orders(contract)
        with pytest.raises(OrderDeniedError, match="no bars of Y"):
            await strategy.broker.place_order(  # type: ignore[union-attr]
                Stock("Y", "SMART", "USD"), tickets[0].order, owner="S"
            )

    async def change_only(strategy: Told, contract: Contract) -> None:
        await strategy.modify_order(tickets[0], limit=100, quantity=7)

    result = told({1: place, 2: change_only}, days("X", WAVES))
    assert fills_of(result) == [("7", "100")]
    result = told({1: place, 2: change}, days("X", WAVES))
    assert result.fills == []
    assert [one.state for one in result.orders] == ["cancelled", "cancelled", "denied"]


class Sleeper(BaseStrategy):
    """Buys and sells in turn, once a day at 17:30 UTC, found by sleeping."""

    async def initialize_strategy(self) -> None:
        self.contract = await self.qualify(X)

    async def run_strategy(self) -> None:
        side = 1
        while self.is_running:
            await asyncio.sleep(60)
            if (self.now().hour, self.now().minute) == (17, 30) and self.now().weekday() < 5:
                await self.place_order(self.contract, 10 * side, tif=self.params.get("tif", "DAY"))
                side = -side


def test_who_sleeps_through_the_past_wakes_on_time_and_twice_alike() -> None:
    bars = minutes("X", [flat(100 + place % 7) for place in range(390 * 23)])
    first, second = run([entry(Sleeper)], bars), run([entry(Sleeper)], bars)
    moments = [moment_of(fill.time_ns) for fill in first.fills]
    assert len(moments) == 24
    after_holiday = datetime(2024, 1, 16, 14, 30, tzinfo=UTC)  # ordered on Martin Luther King's day
    assert after_holiday in moments
    assert {(at.hour, at.minute) for at in moments if at != after_holiday} == {(17, 30)}
    assert first.fills == second.fills
    assert first.orders == second.orders
    assert (first.strategies["S"].equity_curve == second.strategies["S"].equity_curve).all()


def test_an_order_of_the_middle_of_a_bar_does_not_meet_that_bar() -> None:
    bars, start = days("X", [flat(99), flat(100), flat(101), flat(102)]), datetime(2024, 1, 3, tzinfo=UTC)
    result = run([entry(Sleeper)], bars, start=start)
    assert [one.state for one in result.orders] == ["expired", "expired", "expired"], "the day's one bar had begun"
    result = run([entry(Sleeper, tif="GTC")], bars, start=start)
    assert [(fill.quantity, fill.price) for fill in result.fills] == [
        (Decimal(10), Decimal(101)),
        (Decimal(-10), Decimal(102)),
    ]


class Breaks(Told):
    """Raises at the third bar, with a position and a working order."""

    async def on_bar(self, contract: Contract, bar: RealTimeBar) -> None:
        self.count += 1
        if self.count == 2:
            await self.place_bracket(contract, 10, stop_loss=90)
            await self.place_order(contract, 3, "LMT", limit=50, tif="GTC")
        if self.count == 4:
            raise ZeroDivisionError("as planned")


def test_a_strategy_that_fails_is_stopped_alone_and_its_exits_stay() -> None:
    bars = days("X", WAVES)
    beside = scripted("B", [("X", "1d")], {4: [Signal("X", BUY, 1)]})
    result = run([entry(Breaks, "A", plan={}), beside], bars)
    [trace] = result.strategies["A"].errors
    assert "ZeroDivisionError: as planned" in trace
    assert [(one.order_type, one.state, one.reason) for one in result.orders if one.strategy == "A"] == [
        ("MKT", "filled", ""),
        ("LMT", "cancelled", "the strategy failed"),
        ("STP", "filled", ""),
    ]
    assert [fill.quantity for fill in result.fills if fill.strategy == "B"] == [1]
    assert result.strategies["A"].bars_seen == 4


class Endless(BaseStrategy):
    """Never lets time pass, and may not even let itself be cancelled."""

    async def initialize_strategy(self) -> None:
        pass

    async def run_strategy(self) -> None:
        while True:
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                if self.params["gives in"]:
                    raise


@pytest.mark.parametrize("gives_in", [True, False])
def test_a_strategy_that_lets_no_time_pass_is_stopped_alone(gives_in: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trading.backtest.virtual_loop.MOST_STEPS", 10_000)
    result = run(
        [entry(Endless, "A", **{"gives in": gives_in}), entry(Told, "B", plan={1: SAME["market"][1]})], days("X", WAVES)
    )
    assert "a sleep is missing" in result.strategies["A"].errors[0]
    assert (result.strategies["B"].errors, len(result.fills)) == ([], 1)


class Curious(BaseStrategy):
    """Looks at everything at every bar, and notes the latest that it saw."""

    latest: list[tuple[datetime, datetime, float, float]]

    async def initialize_strategy(self) -> None:
        self.subscribe_bars(await self.qualify(X))
        type(self).latest = []

    async def run_strategy(self) -> None:
        await self.until_stopped()

    async def on_bar(self, contract: Contract, bar: RealTimeBar) -> None:
        assert bar.time == self.now() - timedelta(minutes=1)
        frame = await self.get_data("X", "1_min", end_date=datetime(2099, 1, 1, tzinfo=UTC))
        assert isinstance(frame, pd.DataFrame)
        [last] = frame.index[-1:]
        price = await self.get_market_price(contract)
        self.latest.append((self.now(), last.to_pydatetime(), float(frame["close"].iloc[-1]), float(price)))
        hours = await self.get_data("X", "1_hour") if len(frame) > 61 else None
        assert hours is None or isinstance(hours, pd.DataFrame)
        assert hours is None or hours.index[-1] <= self.now() - timedelta(hours=1)


def test_nothing_is_seen_before_it_happened() -> None:
    bars = minutes("X", [flat(100 + place) for place in range(150)])
    result = run([entry(Curious)], bars)
    assert result.strategies["S"].errors == []
    assert len(Curious.latest) == 149
    for place, (now, last, close, price) in enumerate(Curious.latest, 1):
        assert (last, close, price) == (now - timedelta(minutes=1), 100 + place, 100 + place)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda s: s.ib.reqAccountSummaryAsync(), "ib.reqAccountSummaryAsync does not exist in a backtest"),
        (lambda s: asyncio.open_connection("127.0.0.1", 80), "there is no network"),
        (lambda s: s.get_data("Y"), "The run has no bars of Y"),
        (lambda s: s.get_data("X", "1_sec"), "cannot be made of 1d bars"),
    ],
)
def test_what_the_past_cannot_answer_is_refused_by_name(act: Any, message: str) -> None:
    async def ask(strategy: Told, contract: Contract) -> None:
        await act(strategy)

    result = run([entry(Told, plan={1: ask})], days("X", WAVES))
    assert message in result.strategies["S"].errors[0]


def test_what_cash_does_not_pay_for_is_denied_and_on_record() -> None:
    async def act(strategy: Told, contract: Contract) -> None:
        with pytest.raises(OrderDeniedError, match="is free"):
            await strategy.place_order(contract, 2_000)

    result = told({1: act}, days("X", WAVES))
    assert [(one.state, one.quantity) for one in result.orders] == [("denied", Decimal(2_000))]


def test_a_strategy_may_tidy_up_after_the_last_bar() -> None:
    ended: list[datetime] = []

    class Tidy(Sleeper):
        async def run_strategy(self) -> None:
            await self.until_stopped()
            await asyncio.sleep(3)
            ended.append(self.now())

    run([entry(Tidy)], days("X", WAVES))
    assert ended == [datetime(2024, 1, 10, 21, 0, 3, tzinfo=UTC)]


def test_a_class_of_another_kind_and_symbols_without_bars_are_refused() -> None:
    with pytest.raises(ConfigError, match="trades Y, of which the run has no bars"):
        run([StrategyEntry("S", "imperative", Told, {}, Decimal(1), symbols=("Y",))], days("X", WAVES))
    with pytest.raises(ConfigError, match="no imperative strategy"):
        run([StrategyEntry("S", "imperative", lambda *_, **__: object(), {}, Decimal(1))], days("X", WAVES))


def test_a_constructor_that_fails_stops_its_strategy_alone() -> None:
    class Bad(Told):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise StrategyError("not today")

    result = run([entry(Bad, "A"), entry(Told, "B", plan={1: SAME["market"][1]})], days("X", WAVES))
    assert "not today" in result.strategies["A"].errors[0]
    assert len(result.fills) == 1
