"""Walk-forward: search in a window of the past, trade the best set on the days after it, move on.

Owns: going through the windows, one by one, and what each came to. Leaves: windows (``windows``), a search (``sweep``),
putting the pieces together (``stitching``), keeping (``study_store``).
Rule: a window's search sees no bar of the days that are traded after it. A piece begins flat, with the money that the
one before it left, on bars that it has already seen; bars before it are seen and not traded. A window whose search
finds nothing trades nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np

from strategies.bar_series import nanos_of
from strategies.exceptions import ConfigError, MatsError
from trading.backtest.contracts import BacktestResult, Progress, ShouldStop
from trading.backtest.metrics import metrics_of
from trading.backtest.overfitting import Measure
from trading.backtest.pools import Pool, pool_of
from trading.backtest.stitching import closed, stitched
from trading.backtest.sweep import Study, Trial, best_of, measures, search_period, why_none
from trading.backtest.sweep_wish import MOST_WINDOWS, WalkForwardWish
from trading.backtest.trials import Task
from trading.backtest.windows import Window, windows_of


@dataclass(slots=True)
class Piece:
    """A window and what became of it. ``best`` None: its search found nothing, for ``reason``; ``ran`` then is None."""

    window: Window
    trials: list[Trial] = field(repr=False)
    expected: int
    best: Trial | None
    reason: str
    overfitting: Measure
    deflated: Measure
    ran: BacktestResult | None = field(default=None, repr=False)
    metrics: dict[str, object] = field(default_factory=dict)  # of what was traded
    error: str = ""


@dataclass(slots=True)
class WalkForwardResult:
    """What a walk-forward came to. ``traded`` is all pieces as one run; None when nothing was traded."""

    pieces: list[Piece]
    windows: int
    traded: BacktestResult | None
    reason: str
    cancelled: bool
    seconds: float


def run_walk_forward(
    study: Study,
    wish: WalkForwardWish,
    *,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
    scheduler: str = "",
) -> WalkForwardResult:
    """Go through the windows of a study.

    Raises: ConfigError (bad_sweep, no_scheduler), TransientError (cluster_lost).
    """
    began = time.perf_counter()
    stop = should_stop or (lambda: False)
    windows = windows_of(
        wish.backtest.start,
        wish.backtest.end,
        in_sample_days=wish.in_sample_days,
        out_of_sample_days=wish.out_of_sample_days,
        anchored=wish.anchored,
        most=MOST_WINDOWS,
    )
    windows = _with_bars(study, windows)
    pieces: list[Piece] = []
    cash, cancelled = study.cash, False
    with pool_of(study.kit, study.runner, wish.workers, scheduler) as pool:
        for window in windows:
            piece = _search(study, pool, window, _part(progress, window.number, len(windows)), stop)
            if piece is None:
                cancelled = True
                break
            pieces.append(piece)
            cash = _trade(study, piece, cash)
            if cash <= 0:
                break
    ran = [piece.ran for piece in pieces if piece.ran is not None]
    return WalkForwardResult(
        pieces=pieces,
        windows=len(windows),
        traded=stitched(ran, study.cash) if ran else None,
        reason="" if ran else _why_nothing(pieces),
        cancelled=cancelled,
        seconds=time.perf_counter() - began,
    )


def _with_bars(study: Study, windows: list[Window]) -> list[Window]:
    """Return the windows, without a last one that has no bars to trade.

    Raises: ConfigError (bad_sweep) naming a window without bars.
    """
    starts = study.runner.starts()
    kept: list[Window] = []
    for window in windows:
        inside, outside = (
            int(np.diff(np.searchsorted(starts, [nanos_of(first), nanos_of(last)]))[0])
            for first, last in ((window.start, window.end), (window.trade_start, window.trade_end))
        )
        if not inside or (not outside and window is not windows[-1]):
            raise ConfigError(
                f"Window {window.number} has no bars "
                + (f"in sample, from {window.start:%Y-%m-%d}" if not inside else f"from {window.trade_start:%Y-%m-%d}")
                + f" to {window.end if not inside else window.trade_end:%Y-%m-%d}.",
                code="bad_sweep",
                errors={"backtest.start": "Bars are missing in the period."},
            )
        if outside:
            kept.append(window)
    return kept


def _part(progress: Progress | None, number: int, count: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, text: progress((number - 1 + done) / count, f"Window {number} of {count}: {text}")


def _search(
    study: Study, pool: Pool, window: Window, progress: Progress | None, should_stop: Callable[[], bool]
) -> Piece | None:
    """Search a window; None when that was stopped."""
    trials, expected, whole = search_period(study, pool, (window.start, window.end), progress, should_stop)
    if not whole:
        return None
    best = best_of(trials)
    return Piece(window, trials, expected, best, "" if best else why_none(trials, study.wish), *measures(trials, best))


def _trade(study: Study, piece: Piece, cash: Decimal) -> Decimal:
    """Trade a window's best set on the days after it; return the money that it leaves."""
    if piece.best is None:
        return cash
    window = piece.window
    task = Task(window.number, piece.best.complete, window.trade_start, window.trade_end, cash)
    try:
        ran = closed(study.runner.run(task), study.kit.spec)
    except MatsError as error:
        piece.error = error.message
        return cash
    (outcome,) = ran.strategies.values()
    piece.ran, piece.error = ran, outcome.errors[0] if outcome.errors else ""
    piece.metrics = metrics_of(outcome, ran.fills)
    return outcome.equity


def _why_nothing(pieces: list[Piece]) -> str:
    reasons = [piece.reason or piece.error for piece in pieces if piece.reason or piece.error]
    return f"No window traded. The first: {reasons[0]}" if reasons else "No window was finished."
