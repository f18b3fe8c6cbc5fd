"""Several strategies in one session: each hears its own symbols, owns its own books, and is alone in its trouble."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.support.session_files import recorder as source
from tests.support.sessions import DAY_MINUTES, config_of, frames_of, raw_session, session

pytestmark = pytest.mark.e2e


def entry(name: str, *pairs: tuple[str, str], **config: Any) -> dict[str, Any]:
    return {"module": name, "config": {"pairs": [list(pair) for pair in pairs], **config}}


def test_two_strategies_different_symbols() -> None:
    """The seed's own configuration: averages on AAPL and GOOGL, RSI on TSLA."""
    run = session(config_of("test_multiple_strategies"), frames_of({"AAPL": 1, "GOOGL": 2, "TSLA": 3})).go()
    rows = {row["strategy_name"]: row for row in run.metrics["strategies"]}
    assert rows["simple_ma_cross"]["notifications_processed"] == 2 * DAY_MINUTES // 5
    assert rows["rsi_strategy"]["notifications_processed"] == DAY_MINUTES
    traded = {(fill.strategy, fill.symbol) for fill in run.desk.fills}
    assert {symbol for name, symbol in traded if name == "simple_ma_cross"} == {"AAPL", "GOOGL"}
    assert {symbol for name, symbol in traded if name == "rsi_strategy"} == {"TSLA"}


def test_two_strategies_same_symbol(session_files: Path) -> None:
    """Both hear every bar; their positions and cash stay apart."""
    raw = raw_session(
        [entry("recorder", ("AAPL", "1m"), every=20), entry("other", ("AAPL", "1m"), every=30, quantity=7)]
    )
    run = session(raw, frames_of({"AAPL": 1})).go()
    assert run.strategy("recorder").told == run.strategy("other").told  # type: ignore[attr-defined]
    for name, size in (("recorder", 10), ("other", 7)):
        fills = [fill for fill in run.desk.fills if fill.strategy == name]
        assert fills
        assert {abs(fill.quantity) for fill in fills} == {Decimal(size)}
        cash = sum((-fill.quantity * fill.price - fill.fee for fill in fills), Decimal(50_000))
        assert run.desk.figures()[name]["cash"] == f"{cash:.2f}", "half of the capital each"
    alone = session(raw_session([entry("recorder", ("AAPL", "1m"), every=20)]), frames_of({"AAPL": 1})).go()
    mine = [(fill.time_ns, fill.quantity, fill.price) for fill in run.desk.fills if fill.strategy == "recorder"]
    assert mine == [(fill.time_ns, fill.quantity, fill.price) for fill in alone.desk.fills]


def test_five_concurrent_strategies(session_files: Path) -> None:
    names = [f"runner{letter}" for letter in "abcde"]
    for name in names:
        (session_files / f"{name}.py").write_text(source(name.capitalize()))
    symbols = ["AAPL", "GOOGL", "TSLA"]
    entries = [
        entry(name, *[(symbol, "1m") for symbol in symbols], (symbols[0], "5m"), every=15 + number)
        for number, name in enumerate(names)
    ]
    run = session(raw_session(entries, symbols), frames_of({"AAPL": 1, "GOOGL": 2, "TSLA": 3})).go()
    threads = {next(iter(run.strategy(name).threads)) for name in names}  # type: ignore[attr-defined]
    assert threads == {f"Strategy-{name}" for name in names}
    each = 3 * DAY_MINUTES + DAY_MINUTES // 5
    assert [row["notifications_processed"] for row in run.metrics["strategies"]] == [each] * 5
    assert run.metrics["totals"] == {
        **run.metrics["totals"],
        "bars": 3 * DAY_MINUTES,
        "notifications": 5 * each,
        "errors": 0,
        "overruns": 0,
    }
    assert {fill.strategy for fill in run.desk.fills} == set(names)
    again = session(raw_session(entries, symbols), frames_of({"AAPL": 1, "GOOGL": 2, "TSLA": 3})).go()
    assert again.fills() == run.fills()


def test_a_disabled_strategy_is_left_out(session_files: Path) -> None:
    raw = raw_session([entry("recorder", ("AAPL", "1m")), {**entry("other", ("AAPL", "1m")), "enabled": False}])
    run = session(raw, frames_of({"AAPL": 1})).go()
    assert [row["strategy_name"] for row in run.metrics["strategies"]] == ["recorder"]


def test_one_strategy_that_refuses_keeps_the_session_from_starting(session_files: Path) -> None:
    raw = raw_session([entry("recorder", ("AAPL", "1m")), entry("other", ("AAPL", "1m"), agrees=False)])
    with pytest.raises(RuntimeError, match="other refused to start"):
        session(raw, frames_of({"AAPL": 1})).start()


def test_a_session_without_strategies_runs_and_takes_bars_in(session_files: Path) -> None:
    run = session(raw_session([]), frames_of({"AAPL": 1})).go()
    assert run.metrics["totals"]["bars"] == DAY_MINUTES
