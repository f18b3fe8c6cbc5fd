"""What the commands that check a strategy over bars share: options, the wish that they make, how they end.

Owns: reading the command line. Leaves: the checks. Rule: exit code 0 is clean, 1 found, 2 could not tell or bad input.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterable
from typing import Any

from django.core.management.base import CommandError, OutputWrapper

FOUND, UNKNOWN = 1, 2


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the files, bars and parameters of a check."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="strategy files of the registered folders")
    parser.add_argument("--symbols", default="", help="instruments, by commas; empty: those of the parameters")
    parser.add_argument("--start", required=True, help="first day, or moment with zone")
    parser.add_argument("--end", required=True, help="last day, or moment with zone")
    parser.add_argument("--interval", default="", help="base interval; empty: the finest subscribed to")
    parser.add_argument("--source", default="market_data", help="market_data, sample, or parquet:PATH")
    parser.add_argument("--params", default="{}", help="JSON over the files' defaults, for all of them")
    parser.add_argument("--adjust", choices=("none", "splits", "all"), default="splits", help="prices for what")
    parser.add_argument("--warm-up-days", type=int, default=0, help="days before the start that may be seen")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def backtest_of(options: dict[str, Any]) -> dict[str, Any]:
    """Return the backtest that the options name.

    Raises: CommandError (exit code 2) for parameters that are no JSON.
    """
    try:
        params = json.loads(options["params"])
    except ValueError as error:
        raise CommandError(f"--params is no JSON: {error}", returncode=UNKNOWN) from error
    return {
        "strategies": [{"file": name, "params": params} for name in options["files"]],
        "symbols": [one.strip() for one in options["symbols"].split(",") if one.strip()],
        "interval": options["interval"],
        "start": options["start"],
        "end": options["end"],
        "source": options["source"],
        "adjust": options["adjust"],
        "warm_up_days": options["warm_up_days"],
    }


def keep_quiet(verbosity: int) -> None:
    """Keep the strategies' own lines out of the result."""
    if verbosity < 2:
        logging.getLogger("strategy").setLevel(logging.WARNING)
        for name in ("runner", "imperative"):
            logging.getLogger(f"trading.backtest.{name}").setLevel(logging.ERROR)  # what fails is in the result
        logging.getLogger("trading.backtest.compiled_result").setLevel(logging.WARNING)  # one line a run


def print_lines(out: OutputWrapper, lines: Iterable[str]) -> None:
    """Print some lines."""
    for line in lines:
        out.write(line)
