"""The shipped imperative strategies, unmodified, over the shipped minutes."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from strategies.exceptions import ConfigError
from trading.backtest.contracts import BacktestResult
from trading.backtest.engine import run_backtest
from trading.backtest.launch import launch_of
from trading.backtest.wish import parse_wish

pytestmark = pytest.mark.django_db


def ask(*files: str, **changes: Any) -> Any:
    given = {
        "strategies": [{"file": file} for file in files],
        "symbols": ["SPY", "TNA"],
        "start": "2019-12-02",
        "end": "2019-12-20",
        "source": "sample",
    }
    return launch_of(parse_wish(given | changes))


def run() -> BacktestResult:
    return run_backtest(ask("ma_cross.py", "mean_reversion.py", "simple_ma_cross.py").spec)


def test_the_files_of_the_paper_gateway_trade_the_past_beside_a_reactive_one_twice_alike() -> None:
    first, second = run(), run()
    for name in ("ma_cross", "mean_reversion", "simple_ma_cross"):
        outcome = first.strategies[name]
        assert outcome.errors == []
        assert outcome.bars_seen > 700
        assert (outcome.equity_curve == second.strategies[name].equity_curve).all()
    traders = {fill.strategy for fill in first.fills}
    assert {"ma_cross", "mean_reversion"} <= traders
    assert (first.fills, first.orders) == (second.fills, second.orders)
    assert {fill.symbol for fill in first.fills if fill.strategy == "ma_cross"} == {"SPY", "TNA"}


def test_a_file_of_the_old_template_trades_the_past_as_it_is() -> None:
    result = run_backtest(ask("old_style.py", symbols=["SPY"], start="2019-12-12", end="2019-12-13").spec)
    assert result.strategies["old_style"].errors == []
    assert [(fill.symbol, fill.quantity) for fill in result.fills] == [("SPY", Decimal(1))]


def test_what_a_run_was_made_of_names_universe_and_interval() -> None:
    made = ask("ma_cross.py")
    assert (made.interval, made.symbols) == ("1m", ["SPY", "TNA"])
    [strategy] = made.strategies
    assert (strategy["kind"], strategy["params"]["universe"]) == ("imperative", "SPY,TNA")


def test_a_file_of_bars_does_not_tell_their_length(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --interval"):
        ask("ma_cross.py", source=f"parquet:{tmp_path}/some.parquet")


def test_a_length_that_the_source_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="sample has bars of 1m and 1d"):
        ask("ma_cross.py", interval="7m")
