"""Options that the commands of sweeps and walk-forwards share, and what they print alike.

Owns: their names, from options to a wish. Leaves: checks (``sweep_wish``), running.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError

from trading.backtest.sweep_wish import OBJECTIVES

SHOWN = (
    ("profit", "profit"),
    ("total_return", "return"),
    ("sharpe", "sharpe"),
    ("max_drawdown", "drawdown"),
    ("trades", "trades"),
)
_PERCENT = frozenset({"total_return", "max_drawdown", "cagr"})
MOST_FAILURES = 5


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what both commands take."""
    parser.add_argument("file", metavar="FILE", help="strategy file of the registered folders")
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="NAME=VALUES",
        help="a parameter and first:last:step, first:last or values by commas; repeat it for each parameter",
    )
    parser.add_argument("--search", choices=("grid", "random", "tpe"), default="grid", help="how sets are chosen")
    parser.add_argument("--trials", type=int, default=100, help="sets of a random or tpe search")
    parser.add_argument("--objective", choices=OBJECTIVES, default="sharpe", help="figure that is to be high")
    parser.add_argument("--min-trades", type=int, default=0, help="sets with fewer closed trades are not ranked")
    parser.add_argument("--seed", type=int, default=0, help="of random and tpe searches")
    parser.add_argument("--workers", type=int, default=None, help="processes; 0: none but this; default: one a core")
    parser.add_argument(
        "--scheduler", default="", metavar="ADDRESS", help="a running Dask scheduler's, tcp://host:port"
    )
    parser.add_argument("--symbols", default="", help="instruments, by commas; empty: those of the parameters")
    parser.add_argument("--start", required=True, help="first day, or moment with zone")
    parser.add_argument("--end", required=True, help="last day, or moment with zone")
    parser.add_argument("--interval", default="", help="base interval; empty: the finest subscribed to")
    parser.add_argument("--source", default="market_data", help="market_data, sample, or parquet:PATH")
    parser.add_argument("--cash", default="100000", help="of the strategy (default: %(default)s)")
    parser.add_argument("--params", default="{}", help="JSON over the file's defaults, the same in all sets")
    parser.add_argument("--fees", choices=("fixed", "tiered", "none"), default="fixed", help="IB's plan")
    parser.add_argument("--slippage-bps", default="0", help="hundredths of a per cent of the price")
    parser.add_argument("--adjust", choices=("none", "splits", "all"), default="splits", help="prices for what")
    parser.add_argument("--warm-up-days", type=int, default=0, help="days before the start that may be seen")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--table", default="", metavar="FILE", help="write all sets there, as .csv or .parquet")
    parser.add_argument("--save", action="store_true", help="keep the run, as the page's runs are kept")


def wish_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the options ask for, not checked yet.

    Raises: CommandError for what is no JSON or no NAME=VALUES.
    """
    try:
        params = json.loads(options["params"])
    except ValueError as error:
        raise CommandError(f"--params is no JSON: {error}") from error
    backtest = {
        "strategies": [{"file": options["file"], "params": params, "cash": options["cash"]}],
        "symbols": [one.strip() for one in options["symbols"].split(",") if one.strip()],
        "interval": options["interval"],
        "start": options["start"],
        "end": options["end"],
        "source": options["source"],
        "adjust": options["adjust"],
        "costs": {"fees": options["fees"], "slippage_bps": options["slippage_bps"]},
        "warm_up_days": options["warm_up_days"],
    }
    names = ("search", "trials", "objective", "min_trades", "seed", "workers")
    return {"backtest": backtest, "space": _space(options["vary"]), **{name: options[name] for name in names}}


def _space(given: list[str]) -> dict[str, str]:
    space: dict[str, str] = {}
    for one in given:
        name, is_there, text = one.partition("=")
        if not is_there or not name.strip():
            raise CommandError(f"--vary {one}: write NAME=VALUES, such as fast_period=5:20:5.")
        if name.strip() in space:
            raise CommandError(f"--vary {one}: {name.strip()} stands there already.")
        space[name.strip()] = text
    return space


def figure_text(name: str, value: Any) -> str:
    """Return a figure in words; a dash where it is not known."""
    if value is None:
        return "–"
    if name in _PERCENT:
        return f"{float(value) * 100:.2f} %"
    return str(value) if isinstance(value, int) else f"{float(value):,.2f}"


def measure_text(measure: Mapping[str, Any], is_probability: bool = True) -> str:
    """Return a measure in words; why, where it is not known."""
    value = measure["value"]
    if value is None:
        return f"not known ({measure['reason']})"
    return f"{value * 100:.1f} %" if is_probability else f"{value:.3f}"


def print_ending(out: Any, made: Mapping[str, Any]) -> None:
    """Print what failed, and how many sets there were."""
    for lost in made["failures"][:MOST_FAILURES]:
        out.write(f"! set {lost['number']} {json.dumps(lost['params'])} {lost['state']}: {lost['error']}")
    tried = made["done"] + made["failed"] + made["refused"]
    ended = f", interrupted after {tried}" if made["cancelled"] else ""
    out.write(
        f"\n{made['expected']} sets by {made['search']}{ended}: {made['done']} done, {made['failed']} failed, "
        f"{made['refused']} refused by the strategy; {made['seconds']:.1f} s."
    )


def table_lines(rows: list[list[str]]) -> list[str]:
    """Return rows in columns, the first row their titles."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
