"""The shipped strategies: what they decide, on whose position, and that they go on after a reconnect."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from ib_async import Stock

from strategies import life
from strategies.base import BaseStrategy
from strategies.examples.template_strategy import TemplateStrategy
from strategies.library import ma_cross, mean_reversion
from strategies.library.ma_cross import MaCrossStrategy
from strategies.library.mean_reversion import MeanReversionStrategy
from tests.unit.strategies.fakes import CON_IDS, FakeEngine, history_bars, wait_until

RISING = [100.0 + i for i in range(30)]
FALLING = [100.0 - i for i in range(30)]


class Run:
    """One strategy at work against the fake engine."""

    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.strategy: BaseStrategy

    def start(self, cls: type[BaseStrategy], **params: Any) -> None:
        self.strategy = cls(3, self.engine, params, strategy_symbol="DEMO")
        self.strategy.start_strategy()
        wait_until(lambda: self.engine.state() in ("running", "failed"))
        assert self.engine.state() == "running", self.engine.traceback

    def bar(self, symbol: str, close: float) -> None:
        """Send a bar and wait until its hook has run."""
        seen = len(self.engine.lines)
        loop = self.strategy._loop
        assert loop is not None
        loop.call_soon_threadsafe(self.engine.ib.send_bar, symbol, close)
        loop.call_soon_threadsafe(self.strategy._enqueue, self.strategy.log, "bar done")
        wait_until(lambda: len(self.engine.lines) > seen or self.engine.state() == "failed")
        assert self.engine.state() == "running", self.engine.traceback

    def held(self, symbol: str) -> Decimal:
        return self.engine.portfolio_manager.held.get(CON_IDS[symbol], (None, Decimal(0)))[1]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setattr(life, "DRAIN_POLL_S", 0.01)
    made = Run()
    yield made
    made.strategy.stop_strategy(0.1)


def test_ma_cross_decides_with_the_first_live_bar(run: Run) -> None:
    run.engine.ib.history = history_bars(RISING)
    run.start(MaCrossStrategy, **ma_cross.Params().model_dump())
    assert {bars.contract.symbol for bars in run.engine.ib.subscriptions} == {"SPY", "TNA"}
    run.bar("SPY", 131.0)
    assert (run.held("SPY"), run.held("TNA")) == (Decimal(100), Decimal(0))


def test_ma_cross_buys_once_and_sells_below_the_cross(run: Run) -> None:
    run.engine.ib.history = history_bars(RISING)
    run.start(MaCrossStrategy, **ma_cross.Params(quantity=10).model_dump())
    run.bar("SPY", 131.0)
    run.bar("SPY", 132.0)
    assert run.held("SPY") == 10
    for close in range(20):
        run.bar("SPY", 100.0 - close)
    assert run.held("SPY") == 0
    assert [ticket.order.action for ticket in run.engine.orders()] == ["BUY", "SELL"]


def test_ma_cross_waits_while_an_order_is_being_worked(run: Run) -> None:
    run.engine.ib.history = history_bars(RISING)
    run.start(MaCrossStrategy, **ma_cross.Params().model_dump())
    assert run.engine.broker is not None
    run.engine.broker.fills_at_once = False
    run.bar("SPY", 131.0)
    run.bar("SPY", 132.0)
    assert len(run.engine.orders()) == 1


def test_ma_cross_stays_out_while_falling(run: Run) -> None:
    run.engine.ib.history = history_bars(FALLING)
    run.start(MaCrossStrategy, **ma_cross.Params().model_dump())
    run.bar("SPY", 60.0)
    assert run.engine.orders() == []


def test_ma_cross_sizes_by_equity_without_a_quantity(run: Run) -> None:
    run.engine.ib.history = history_bars(RISING)
    run.start(MaCrossStrategy, **ma_cross.Params(quantity=None, position_size=0.5).model_dump())
    run.bar("SPY", 131.0)
    assert run.held("SPY") == 50  # 10 000 × 0.5 / 100


def test_ma_cross_without_history_waits_until_it_has_seen_enough(run: Run) -> None:
    run.start(MaCrossStrategy, **ma_cross.Params(fast=2, slow=4, universe="SPY").model_dump())
    for close in (1.0, 2.0, 3.0):
        run.bar("SPY", close)
    assert run.engine.orders() == []
    run.bar("SPY", 4.0)
    assert run.held("SPY") == 100


def test_ma_cross_follows_the_market_again_after_a_reconnect(run: Run) -> None:
    run.engine.ib.history = history_bars(FALLING)
    run.start(MaCrossStrategy, **ma_cross.Params(universe="SPY").model_dump())
    run.engine.ib.history = history_bars(RISING)
    run.engine.ib.subscriptions.clear()
    run.engine.ib.connected = False
    assert run.strategy._loop is not None
    run.strategy._loop.call_soon_threadsafe(run.engine.ib.disconnectedEvent.emit)
    wait_until(lambda: run.engine.ib.subscriptions)
    run.bar("SPY", 131.0)
    assert run.held("SPY") == 100


def test_ma_cross_takes_new_lengths_while_it_runs(run: Run) -> None:
    run.engine.ib.history = history_bars(RISING)
    run.start(MaCrossStrategy, **ma_cross.Params(universe="SPY").model_dump())
    asked = len(run.engine.ib.history_requests)
    run.strategy.update_params(ma_cross.Params(universe="SPY", fast=3, slow=6).model_dump())
    wait_until(lambda: len(run.engine.ib.history_requests) > asked)
    run.bar("SPY", 131.0)
    assert run.held("SPY") == 100


def test_mean_reversion_turns_around_with_one_order(run: Run) -> None:
    run.engine.ib.history = history_bars([100.0, 101.0] * 15)
    run.start(MeanReversionStrategy, **mean_reversion.Params(universe="SPY").model_dump())
    run.bar("SPY", 90.0)
    assert run.held("SPY") == 50
    run.bar("SPY", 130.0)
    assert run.held("SPY") == -50
    assert [ticket.order.totalQuantity for ticket in run.engine.orders()] == [50, 100]


@pytest.mark.parametrize(
    ("last", "held", "wanted"),
    [(90.0, 0, 50), (110.0, 0, -50), (100.0, 50, 0), (100.9, 50, 50), (100.9, 0, 0)],
)
def test_mean_reversion_holds_what_the_distance_asks_for(last: float, held: int, wanted: int) -> None:
    strategy = MeanReversionStrategy(1, FakeEngine(), {}, strategy_symbol="DEMO")
    strategy.settings = mean_reversion.Params()
    closes = [*[98.5, 101.5] * 9, 100.0, last]
    assert strategy.wanted_position(closes, Decimal(held)) == wanted


def test_mean_reversion_without_shorts_only_leaves() -> None:
    strategy = MeanReversionStrategy(1, FakeEngine(), {}, strategy_symbol="DEMO")
    strategy.settings = mean_reversion.Params(allow_short=False)
    assert strategy.wanted_position([*[99.0, 101.0] * 9, 100.0, 110.0], Decimal(50)) == 0


def test_flat_market_changes_nothing() -> None:
    strategy = MeanReversionStrategy(1, FakeEngine(), {}, strategy_symbol="DEMO")
    strategy.settings = mean_reversion.Params()
    assert strategy.wanted_position([100.0] * 20, Decimal(50)) == 50


def test_template_buys_one_share_once(run: Run) -> None:
    run.start(TemplateStrategy, universe="SPY")
    wait_until(lambda: run.held("SPY") == 1)


def test_template_does_not_buy_again_after_a_restart(run: Run) -> None:
    first = FakeEngine()
    run.engine.portfolio_manager = first.portfolio_manager
    contract = run.engine.ib._qualified(Stock("SPY", "SMART", "USD"))
    assert contract is not None
    run.engine.portfolio_manager.trade(contract, Decimal(1))
    run.start(TemplateStrategy, universe="SPY")
    assert run.strategy.stop_strategy(1)
    assert run.engine.orders() == []


def test_wrong_lengths_are_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match="longer than the fast one"):
        ma_cross.Params(fast=20, slow=10)
    with pytest.raises(ValueError, match="nearer to the mean"):
        mean_reversion.Params(entry_z=1, exit_z=2)
