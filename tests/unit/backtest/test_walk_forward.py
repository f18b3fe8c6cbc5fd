"""Walk-forward: each window's best set trades the days after it, flat to flat, and the money adds up."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strategies.bar_series import moment_of, nanos_of
from strategies.exceptions import ConfigError
from tests.support.studies import wish_of, write_files
from trading.backtest.metrics import metrics_of
from trading.backtest.pools import pool_of
from trading.backtest.stitching import CLOSED
from trading.backtest.sweep import Study, best_of, prepare, search_period
from trading.backtest.sweep_wish import parse_walk_forward
from trading.backtest.walk_forward import WalkForwardResult, run_walk_forward
from trading.backtest.walk_json import walk_forward_as_json

pytestmark = pytest.mark.django_db
WINDOWS = {"in_sample_days": 365, "out_of_sample_days": 182}


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Path) -> Path:
    settings.MATS = dataclasses.replace(settings.MATS, strategy_path=(tmp_path,))
    write_files(tmp_path)
    return tmp_path


def made(file: str, space: dict[str, Any], **changes: Any) -> tuple[Study, WalkForwardResult, dict[str, Any]]:
    wish = parse_walk_forward(wish_of(file, space, **{**WINDOWS, **changes}))
    study = prepare(wish)
    result = run_walk_forward(study, wish)
    return study, result, walk_forward_as_json(wish, result)


@pytest.mark.parametrize("costs", [{}, {"fees": "tiered", "slippage_bps": "5", "half_spread": "0.02"}])
def test_money_neither_appears_nor_goes_between_windows(costs: dict[str, str]) -> None:
    _, result, told = made("mean.py", {"length": "5:45:20"}, backtest={"costs": costs})
    assert result.traded is not None
    (outcome,) = result.traded.strategies.values()
    cash = Decimal(100_000)
    for piece in result.pieces:
        assert piece.ran is not None
        (own,) = piece.ran.strategies.values()
        assert own.start_cash == cash
        assert own.positions == []
        assert sum(fill.quantity for fill in piece.ran.fills) == 0
        paid = sum((fill.quantity * fill.price + fill.fee for fill in piece.ran.fills), Decimal(0))
        cash -= paid
        assert own.equity == own.cash == cash
    assert outcome.equity == cash
    assert outcome.fees == sum(fill.fee for fill in result.traded.fills)
    assert float(outcome.equity_curve[-1]) == pytest.approx(float(cash))
    assert any(fill.reason == CLOSED for fill in result.traded.fills)
    assert Decimal(metrics_of(outcome, result.traded.fills)["profit"]) == cash - 100_000
    assert float(100_000 + outcome.realized - outcome.fees) == pytest.approx(float(cash), abs=1e-6)
    assert Decimal(told["traded"]["profit"]) == cash - 100_000


@pytest.mark.parametrize("anchored", [False, True])
def test_a_window_trades_after_its_search_alone_and_no_moment_twice(anchored: bool) -> None:
    _, result, _ = made("mean.py", {"length": "5:45:20"}, anchored=anchored)
    assert result.windows == len(result.pieces) == 7
    assert result.traded is not None
    (outcome,) = result.traded.strategies.values()
    assert (np.diff(outcome.equity_ns) > 0).all()
    for piece in result.pieces:
        window = piece.window
        assert piece.ran is not None
        (own,) = piece.ran.strategies.values()
        assert nanos_of(window.end) < own.equity_ns[0]
        assert own.equity_ns[-1] <= nanos_of(window.trade_end)
        for trial in piece.trials:
            days = trial.figures.days.astype("datetime64[D]")
            assert np.datetime64(window.start.date()) <= days[0]
            assert days[-1] <= np.datetime64(window.end.date())
        for fill in piece.ran.fills:
            assert window.trade_start <= moment_of(fill.time_ns) <= window.trade_end


def test_what_is_chosen_is_the_best_of_the_window_alone() -> None:
    study, result, told = made("mean.py", {"length": "5:45:20"})
    with pool_of(study.kit, study.runner, 0) as pool:
        for piece in result.pieces:
            window = piece.window
            trials, _, _ = search_period(study, pool, (window.start, window.end), None, lambda: False)
            best = best_of(trials)
            assert best is not None
            assert piece.best is not None
            assert piece.best.params == best.params
    assert [one["chosen"]["params"] for one in told["pieces"]] == [
        piece.best.params for piece in result.pieces if piece.best
    ]


def test_bars_before_a_window_are_seen_and_not_traded() -> None:
    """A mean over 200 days is known on the first days of a window: the bars of the search before it are seen."""
    _, result, _ = made("mean.py", {"length": [200]})
    early = 0
    for piece in result.pieces:
        assert piece.ran is not None
        (own,) = piece.ran.strategies.values()
        assert len(own.equity_ns) < 200
        assert all(fill.time_ns >= nanos_of(piece.window.trade_start) for fill in piece.ran.fills)
        early += any(fill.time_ns < own.equity_ns[5] for fill in piece.ran.fills)
    assert early > 0


def test_a_window_without_a_set_to_choose_trades_nothing() -> None:
    _, result, told = made("mean.py", {"length": "5,40"}, min_trades=11, in_sample_days=120, out_of_sample_days=120)
    idle = [piece for piece in result.pieces if piece.best is None]
    assert 0 < len(idle) < len(result.pieces)
    assert all(piece.ran is None and "No set closed 11" in piece.reason for piece in idle)
    assert told["traded_windows"] == len(result.pieces) - len(idle)


def test_where_nothing_is_traded_there_is_a_reason() -> None:
    _, result, told = made("mean.py", {"length": "5,10"}, min_trades=10_000)
    assert result.traded is None
    assert "No window traded" in told["reason"]
    assert told["efficiency"]["value"] is None


def test_code_that_fails_out_of_sample_is_told_and_its_money_counts() -> None:
    """The strategy fails on the first bar of 2006: what is traded then ends early, what is searched then fails."""
    _, result, told = made("ends.py", {"length": "5,10"}, in_sample_days=365, out_of_sample_days=730)
    first = told["pieces"][0]
    assert first["error"] == "RuntimeError: no more"
    assert first["traded"]["fills"] > 0
    assert result.pieces[0].ran is not None
    assert result.traded is not None
    (own,) = result.pieces[0].ran.strategies.values()
    (whole,) = result.traded.strategies.values()
    assert own.positions == []
    assert whole.equity == own.equity
    assert told["pieces"][1]["chosen"] is None


def test_stopped_it_keeps_the_windows_that_are_done() -> None:
    wish = parse_walk_forward(wish_of("mean.py", {"length": "5:45:20"}, **WINDOWS))
    study, told = prepare(wish), []
    result = run_walk_forward(
        study, wish, progress=lambda done, text: told.append(done), should_stop=lambda: len(told) >= 7
    )
    assert result.cancelled
    assert [piece.window.number for piece in result.pieces] == [1, 2]
    assert result.traded is not None
    assert told == sorted(told)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"in_sample_days": 2_000}, "leave none to trade"),
        ({"out_of_sample_days": 1, "backtest": {"end": "2005-01-31"}}, "no bars"),
        ({"out_of_sample_days": 5, "in_sample_days": 5}, "more than 200 windows"),
    ],
)
def test_windows_that_cannot_be_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        made("mean.py", {"length": "5,10"}, **changes)
