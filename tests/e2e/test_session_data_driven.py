"""Sessions from bar to bar: nothing is lost, nothing is seen too early, everything is the same again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from strategies.bar_series import BarSeries
from strategies.loader import load_strategy_module
from tests.support.session_files import GATES
from tests.support.sessions import DAY, DAY_MINUTES, Run, config_of, frames_of, minutes, raw_session, session
from trading.backtest.contracts import BacktestSpec, StrategyEntry
from trading.backtest.engine import run_backtest
from trading.market.backtest_data import prepare
from trading.market.feeds import series_of
from trading.market.session_data import SessionData
from trading.market.session_status import Phase
from trading.market.sim_desk import models_of
from trading.market.system_manager import SessionFailedError
from trading.market.time_manager import TimeManager

pytestmark = pytest.mark.e2e

MINUTE_NS = 60_000_000_000
RECORDER = {"module": "recorder", "config": {"pairs": [["AAPL", "1m"], ["AAPL", "5m"]], "every": 7}}


def recorder(**config: Any) -> dict[str, Any]:
    return {"module": "recorder", "config": {**RECORDER["config"], **config}}  # type: ignore[dict-item]


def test_data_driven_with_single_strategy() -> None:
    run = session(config_of("test_single_strategy"), frames_of({"AAPL": 11})).go()
    strategy = run.strategy("simple_ma_cross")
    metrics = run.metrics
    assert metrics["totals"]["bars"] == DAY_MINUTES
    assert metrics["totals"]["notifications"] == DAY_MINUTES // 5
    assert metrics["totals"]["errors"] == 0
    assert metrics["totals"]["signals"] > 0
    assert run.desk.fills
    assert strategy.context is not None
    assert len(strategy.context.get_bars("AAPL", "5m")) == DAY_MINUTES // 5
    assert run.watcher.phases == [
        Phase.VALIDATING,
        Phase.PREPARING,
        Phase.LOADING,
        Phase.STREAMING,
        Phase.CLOSING,
        Phase.ENDED,
    ]


def test_no_bar_is_lost_and_each_is_told_once(session_files: Path) -> None:
    run = session(raw_session([recorder()]), frames_of({"AAPL": 11})).go()
    told: list[tuple[str, str, int]] = run.strategy("recorder").told  # type: ignore[attr-defined]
    frame = minutes(11)
    starts = [int(stamp.value) for stamp in frame.index]
    assert [start for _, interval, start in told if interval == "1m"] == starts
    assert [start for _, interval, start in told if interval == "5m"] == starts[::5]
    assert len(set(told)) == len(told)
    bars = run.system.get_session_data().get_bars_ref("AAPL", "1m")
    assert bars.close.tolist() == frame["close"].tolist()


def test_a_bar_is_seen_at_its_end_and_never_before(session_files: Path) -> None:
    run = session(raw_session([recorder()]), frames_of({"AAPL": 11})).go()
    strategy: Any = run.strategy("recorder")
    for (_, interval, start), (now, count, stamp) in zip(strategy.told, strategy.seen, strict=True):
        length = timedelta(minutes=1 if interval == "1m" else 5)
        assert stamp + length == now, "told at the end of the bar"
        assert count == (now - datetime(2024, 1, 2, 14, 30, tzinfo=UTC)) // length
        assert start == int(stamp.timestamp()) * 10**9


def test_the_bar_that_ends_at_the_close_is_kept(session_files: Path) -> None:
    run = session(raw_session([recorder()]), frames_of({"AAPL": 11})).go()
    strategy: Any = run.strategy("recorder")
    assert strategy.seen[-1][0] == datetime(2024, 1, 2, 21, 0, tzinfo=UTC)
    assert {pair[1] for pair in strategy.told[-2:]} == {"1m", "5m"}


def test_an_early_close_ends_the_day(session_files: Path) -> None:
    day = date(2024, 7, 3)  # closes at 13:00
    frames = {("AAPL", "1m"): minutes(5, day)}
    run = session(raw_session([recorder()], days=(day, day)), frames).go()
    strategy: Any = run.strategy("recorder")
    assert strategy.seen[-1][0] == datetime(2024, 7, 3, 17, 0, tzinfo=UTC)
    assert run.metrics["totals"]["bars"] == 210


def test_equal_sessions_give_equal_fills(session_files: Path) -> None:
    raw = raw_session(
        [
            recorder(pairs=[["AAPL", "1m"], ["TSLA", "5m"]]),
            {"module": "other", "config": {"pairs": [["TSLA", "1m"]], "every": 3}},
        ],
        ["AAPL", "TSLA"],
    )
    frames = frames_of({"AAPL": 1, "TSLA": 2})
    first, second = (session(raw, frames).go() for _ in range(2))
    assert len(first.fills()) > 50
    assert first.fills() == second.fills()
    assert first.desk.orders() == second.desk.orders()


def test_fills_do_not_hang_on_how_fast_strategies_are(session_files: Path) -> None:
    """Threads end in another order; signals count in that of the configuration."""

    def hurry(strategy: Any, symbol: str, interval: str) -> None:
        if len(strategy.told) % 17 == 0:
            threading.Event().wait(0.002)

    raw = raw_session(
        [recorder(pairs=[["AAPL", "1m"]]), {"module": "other", "config": {"pairs": [["AAPL", "1m"]], "every": 7}}]
    )
    frames, found = frames_of({"AAPL": 3}), []
    for slow in ("", "recorder", "other"):
        GATES.clear()
        GATES[slow] = hurry
        found.append(session(raw, frames).go().fills())
    assert found[0]
    assert found[0] == found[1] == found[2]


def test_data_driven_with_slow_strategy(session_files: Path) -> None:
    """The slow strategy sets the pace: while it decides, the clock stands and nobody hears more."""
    entered, release = threading.Event(), threading.Event()

    def gate(strategy: Any, symbol: str, interval: str) -> None:
        if len(strategy.told) == 10:
            entered.set()
            assert release.wait(20)

    GATES["recorder"] = gate
    raw = raw_session([recorder(pairs=[["AAPL", "1m"]]), {"module": "other", "config": {"pairs": [["AAPL", "1m"]]}}])
    run = session(raw, frames_of({"AAPL": 4})).start()
    try:
        assert entered.wait(20)
        other: Any = run.strategy("other")
        deadline = time.monotonic() + 10
        while len(other.told) < 10 and time.monotonic() < deadline:
            threading.Event().wait(0.002)
        stands = run.system.get_time_manager().get_current_time()
        threading.Event().wait(0.3)
        assert run.system.get_time_manager().get_current_time() == stands
        assert len(other.told) == 10
    finally:
        release.set()
    run.finish()
    assert len(other.told) == DAY_MINUTES
    assert run.metrics["totals"]["overruns"] == 0


def test_a_strategy_that_is_not_told_holds_nobody_up(session_files: Path) -> None:
    raw = raw_session(
        [recorder(pairs=[["AAPL", "1m"]]), {"module": "other", "config": {"pairs": [["TSLA", "1m"]]}}], ["AAPL", "TSLA"]
    )
    frames = frames_of({"AAPL": 4, "TSLA": 5})
    frames["TSLA", "1m"] = frames["TSLA", "1m"].iloc[:3]
    run = session(raw, frames).go()
    assert len(run.strategy("other").told) == 3  # type: ignore[attr-defined]
    assert len(run.strategy("recorder").told) == DAY_MINUTES  # type: ignore[attr-defined]


def test_data_driven_signal_generation(session_files: Path) -> None:
    """A signal of one bar is filled at the next bar's open, and books and fees follow."""
    raw = raw_session(
        [{"module": "recorder", "config": {"pairs": [["AAPL", "5m"]], "every": 4, "quantity": 25}}],
        backtest={"commission_per_share": 0.01, "slippage_bps": 10},
    )
    run = session(raw, frames_of({"AAPL": 6})).go()
    frame = minutes(6)
    [first, second, *_] = run.desk.fills
    # The fourth 5-minute bar ends at minute 20, the eighth at minute 40.
    for fill, minute, quantity, worse in ((first, 20, 25, "1.001"), (second, 40, -25, "0.999")):
        assert fill.time_ns == int(frame.index[minute].value)
        assert fill.price == Decimal(repr(float(frame["open"].iloc[minute]))) * Decimal(worse)
        assert (fill.quantity, fill.order_type, fill.reason) == (Decimal(quantity), "MKT", "rhythm")
    assert all(fill.fee == Decimal("0.25") for fill in run.desk.fills)
    figures = run.desk.figures()["recorder"]
    held = sum(fill.quantity for fill in run.desk.fills)
    spent = sum((-fill.quantity * fill.price - fill.fee for fill in run.desk.fills), Decimal(100_000))
    assert figures["cash"] == f"{spent:.2f}"
    assert figures["positions"] == ({"AAPL": f"{held:f}"} if held else {})


def test_the_first_bar_of_a_whole_day_may_be_traded(session_files: Path) -> None:
    """Its bars are complete from the first one on, also for the rule that asks for complete bars."""
    config = {"module": "recorder", "config": {"pairs": [["AAPL", "1m"]], "every": 1}}
    run = session(raw_session([config]), frames_of({"AAPL": 6})).go()
    assert run.desk.fills[0].time_ns == int(minutes(6).index[1].value)
    assert len(run.desk.fills) == DAY_MINUTES - 1
    assert run.metrics["totals"]["denied"] == 0


def held_after(run: Run) -> list[Decimal]:
    """Return the position after each fill."""
    return list(accumulate(fill.quantity for fill in run.desk.fills))


def test_a_sale_from_flat_is_denied_unless_shorts_are_allowed(session_files: Path) -> None:
    config = {
        "module": "recorder",
        "config": {"pairs": [["AAPL", "5m"]], "every": 5, "quantity": 25, "sells_first": True},
    }
    config["config"]["allow_short"] = True  # type: ignore[index]
    frames = frames_of({"AAPL": 6})
    careful = session(raw_session([config]), frames).go()
    bold = session(raw_session([config], backtest={"allow_short": True}), frames).go()
    assert min(held_after(careful)) == 0
    assert min(held_after(bold)) < 0
    assert all("short" in order.reason for order in careful.desk.orders() if order.state == "denied")


def test_limits_of_the_session_bound_orders(session_files: Path) -> None:
    config = {"module": "recorder", "config": {"pairs": [["AAPL", "5m"]], "every": 5, "quantity": 90}}
    run = session(
        raw_session([config], trading={"max_per_trade": 5_000, "max_per_symbol": 8_000}), frames_of({"AAPL": 6})
    ).go()
    assert not run.desk.fills
    assert {order.state for order in run.desk.orders()} == {"denied"}
    assert any("max_per_trade" in order.reason for order in run.desk.orders())
    assert run.metrics["totals"]["denied"] > 0
    [row] = run.metrics["strategies"]
    assert row["last_refusal"].endswith(run.desk.orders()[-1].reason)


def test_an_error_of_a_strategy_is_counted_and_the_session_goes_on(session_files: Path) -> None:
    raw = raw_session(
        [
            {"module": "recorder", "config": {"pairs": [["AAPL", "1m"]], "raises": True}},
            {"module": "other", "config": {"pairs": [["AAPL", "1m"]]}},
        ]
    )
    run = session(raw, frames_of({"AAPL": 4})).go()
    assert run.metrics["totals"]["errors"] == DAY_MINUTES
    assert len(run.strategy("other").told) == DAY_MINUTES  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"symbols": ["NONE"]}, "There are no stored bars of NONE 1m"),
        ({"strategies": [{"module": "no_such_file", "config": {}}]}, "no_such_file.py does not exist"),
        ({"strategies": [recorder(agrees=False)]}, "its setup returned False"),
        ({"strategies": [recorder(pairs=[["AAPL", "15m"]])]}, "follows AAPL 15m; the session's streams are 1m, 5m"),
    ],
)
def test_a_session_that_cannot_start_says_why_and_leaves_nothing_running(
    session_files: Path, change: dict[str, Any], words: str
) -> None:
    raw = raw_session([recorder()])
    raw["session_data_config"] |= change
    before = {thread.name for thread in threading.enumerate()}
    run = session(raw, frames_of({"AAPL": 1}))
    with pytest.raises(RuntimeError) as caught:
        run.start()
    assert isinstance(caught.value, SessionFailedError)
    assert words in str(caught.value)
    assert run.watcher.phases[-1] is Phase.FAILED
    assert {thread.name for thread in threading.enumerate()} <= before
    with pytest.raises(RuntimeError, match="not initialized"):
        run.system.get_strategy_manager()


def test_each_day_begins_anew_and_books_go_on(session_files: Path) -> None:
    days = (date(2024, 1, 2), date(2024, 1, 3))
    frames = frames_of({"AAPL": 8}, days)
    run = session(raw_session([recorder(pairs=[["AAPL", "1m"]], every=50)], days=days), frames).go()
    strategy: Any = run.strategy("recorder")
    assert len(strategy.told) == DAY_MINUTES, "a fresh instance each day"
    assert run.metrics["totals"]["notifications"] == 2 * DAY_MINUTES
    assert run.metrics["totals"]["bars"] == 2 * DAY_MINUTES
    assert run.watcher.phases.count(Phase.PREPARING) == 2
    assert {datetime.fromtimestamp(f.time_ns / 1e9, UTC).date() for f in run.desk.fills} == set(days)
    assert run.desk.figures()["recorder"]["fills"] == len(run.desk.fills)


def test_history_before_the_day_is_there_and_of_the_day_nothing(session_files: Path) -> None:
    days = [date(2023, 12, 28), date(2023, 12, 29), DAY]
    raw = raw_session(
        [recorder(pairs=[["AAPL", "5m"]])],
        data={"historical": {"data": [{"trailing_days": 2, "intervals": ["1m", "1d"]}]}},
    )
    run = session(raw, frames_of({"AAPL": 8}, days)).go()
    strategy: Any = run.strategy("recorder")
    first_now, first_count, _ = strategy.seen[0]
    assert first_now == datetime(2024, 1, 2, 14, 35, tzinfo=UTC)
    assert first_count == 2 * 78 + 1
    daily = run.system.get_session_data().get_bars_ref("AAPL", "1d")
    assert len(daily) == 3, "made of minutes; today's ends with the close"


def test_declared_indicators_are_warm_at_the_open(session_files: Path) -> None:
    days = [date(2023, 12, 29), DAY]
    seen: list[Any] = []

    def look(strategy: Any, symbol: str, interval: str) -> None:
        seen.append(strategy.context.get_indicator(symbol, interval, "sma", 20).value)

    GATES["recorder"] = look
    raw = raw_session(
        [recorder(pairs=[["AAPL", "5m"]])],
        data={"indicators": {"session": [{"name": "sma", "period": 20, "interval": "5m"}]}},
    )
    run = session(raw, frames_of({"AAPL": 8}, days)).go()
    closes = run.system.get_session_data().get_bars_ref("AAPL", "5m").close
    assert len(seen) == 78
    assert seen[0] is not None
    assert seen[0] == pytest.approx(closes[59:79].mean())


def test_pause_stands_the_clock_still_and_resume_goes_on(session_files: Path) -> None:
    reached, let_go = threading.Event(), threading.Event()

    def gate(strategy: Any, symbol: str, interval: str) -> None:
        if len(strategy.told) == 30:
            reached.set()
            assert let_go.wait(20)

    GATES["recorder"] = gate
    run = session(raw_session([recorder(pairs=[["AAPL", "1m"]])]), frames_of({"AAPL": 4})).start()
    assert reached.wait(20)
    run.coordinator.pause()
    let_go.set()
    _until(lambda: run.coordinator.phase is Phase.PAUSED)
    strategy: Any = run.strategy("recorder")
    assert len(strategy.told) == 30
    stands = run.system.get_time_manager().get_current_time()
    threading.Event().wait(0.2)
    assert run.system.get_time_manager().get_current_time() == stands
    run.coordinator.resume()
    run.finish()
    assert len(strategy.told) == DAY_MINUTES


def test_stop_ends_in_order_and_keeps_what_was_done(session_files: Path) -> None:
    reached, let_go = threading.Event(), threading.Event()

    def gate(strategy: Any, symbol: str, interval: str) -> None:
        if len(strategy.told) == 100:
            reached.set()
            assert let_go.wait(20)

    GATES["recorder"] = gate
    run = session(raw_session([recorder(pairs=[["AAPL", "1m"]])]), frames_of({"AAPL": 4})).start()
    assert reached.wait(20)
    strategy: Any = run.strategy("recorder")
    run.system.request_stop()
    let_go.set()
    run.finish()
    assert run.watcher.phases[-1] is Phase.STOPPED
    assert strategy.ended
    assert run.desk.fills
    assert run.system.stop_session()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("Session-", "Strategy-"))]


def test_a_session_gives_the_fills_of_the_backtest() -> None:
    """One strategy, one day, the same bars: the session's threads and the backtest's loop trade alike."""
    wide = {"max_buying_power": 1_000_000, "max_per_trade": 1_000_000, "max_per_symbol": 1_000_000}
    raw = {**config_of("test_single_strategy"), "trading_config": wide}
    frames = frames_of({"AAPL": 21})
    run = session(raw, frames).go()
    loaded = load_strategy_module("strategies.examples.simple_ma_cross")
    config: Any = run.strategy("simple_ma_cross").config
    clock = TimeManager("backtest")
    clock.set_time(datetime(2024, 1, 2, 14, 30, tzinfo=UTC))
    base = series_of("AAPL", "1m", frames["AAPL", "1m"])
    base.count = 0
    prepared = prepare(SessionData(clock), {("AAPL", "1m"): base}, [("AAPL", "5m")])
    bars: dict[tuple[str, str], BarSeries] = dict(prepared.series)
    assert run.config.backtest_config is not None
    spec = BacktestSpec(
        strategies=[
            StrategyEntry(
                "simple_ma_cross",
                "reactive",
                loaded.cls,
                config,
                Decimal(100_000),
            )
        ],
        bars=bars,
        start=datetime(2024, 1, 2, 14, 30, tzinfo=UTC),
        end=datetime(2024, 1, 2, 21, 0, tzinfo=UTC),
        models=models_of(run.config.backtest_config),
    )
    result = run_backtest(spec)
    assert len(result.fills) > 3
    assert run.desk.fills == result.fills


def _until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        threading.Event().wait(0.005)
