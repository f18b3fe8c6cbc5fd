"""What a walk-forward came to, for pages, API and files: JSON-able and bounded.

Owns: the shape, and what in and out of sample say together. Leaves: shared parts (``study_json``), keeping
(``study_store``). Units: fractions of 1; moments as days in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trading.backtest.metrics import metrics_of
from trading.backtest.study_json import asked_as_json, counts, failures, trial_as_json
from trading.backtest.sweep import last_line
from trading.backtest.sweep_wish import WalkForwardWish
from trading.backtest.trials import KEPT
from trading.backtest.walk_forward import Piece, WalkForwardResult

_MOST_TEXT = 300


def walk_forward_as_json(wish: WalkForwardWish, result: WalkForwardResult) -> dict[str, Any]:
    """Return a walk-forward."""
    pieces = [_piece(piece) for piece in result.pieces]
    trials = [trial for piece in result.pieces for trial in piece.trials]
    traded = _traded(result)
    return {
        "kind": "walk_forward",
        **asked_as_json(wish),
        "in_sample_days": wish.in_sample_days,
        "out_of_sample_days": wish.out_of_sample_days,
        "anchored": wish.anchored,
        **counts(trials, sum(piece.expected for piece in result.pieces)),
        "windows": result.windows,
        "pieces": pieces,
        "traded": traded,
        **_together(pieces, traded),
        "failures": failures(trials),
        "reason": result.reason,
        "cancelled": result.cancelled,
        "seconds": round(result.seconds, 3),
    }


def _piece(piece: Piece) -> dict[str, Any]:
    window = piece.window
    return {
        "number": window.number,
        "in_sample": [f"{window.start:%Y-%m-%d}", f"{window.end:%Y-%m-%d}"],
        "out_of_sample": [f"{window.trade_start:%Y-%m-%d}", f"{window.trade_end:%Y-%m-%d}"],
        "chosen": trial_as_json(piece.best) if piece.best else None,
        "traded": _kept(piece.metrics) if piece.metrics else None,
        "reason": piece.reason,
        "error": last_line(piece.error)[:_MOST_TEXT],
        "overfitting": piece.overfitting.as_json(),
        "deflated": piece.deflated.as_json(),
    }


def _kept(metrics: Mapping[str, Any]) -> dict[str, Any]:
    reasons = {name: text for name, text in metrics["reasons"].items() if name in KEPT}
    return {**{name: metrics.get(name) for name in KEPT}, "reasons": reasons}


def _traded(result: WalkForwardResult) -> dict[str, Any] | None:
    if result.traded is None:
        return None
    (outcome,) = result.traded.strategies.values()
    return _kept(metrics_of(outcome, result.traded.fills))


def _together(pieces: Sequence[Mapping[str, Any]], traded: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return how many windows earned, and the walk-forward efficiency: yearly return out of sample over that in sample.

    Source: Pardo, «The Evaluation and Optimization of Trading Strategies», 2nd ed., 2008, ch. 11.
    """
    done = [piece for piece in pieces if piece["traded"]]
    inside = [piece["chosen"]["metrics"]["cagr"] for piece in done]
    efficiency, reason = None, ""
    if traded is None or traded["cagr"] is None or None in inside:
        reason = "A yearly return is not known."
    elif (mean := sum(inside) / len(inside)) <= 0:
        reason = "The chosen sets earned nothing in sample."
    else:
        efficiency = traded["cagr"] / mean
    return {
        "traded_windows": len(done),
        "windows_that_earned": sum((piece["traded"]["total_return"] or 0) > 0 for piece in done),
        "efficiency": {"value": efficiency, "reason": reason},
    }
