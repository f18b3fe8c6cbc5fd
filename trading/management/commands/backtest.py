"""``manage.py backtest``: run strategy files over bars of the past and print what came of it."""

from __future__ import annotations

import argparse
import json
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from strategies.exceptions import MatsError
from trading.backtest import store
from trading.backtest.contracts import BacktestResult
from trading.backtest.engine import run_backtest
from trading.backtest.launch import Launch, launch_of
from trading.backtest.metrics import all_metrics
from trading.backtest.report import render_report
from trading.backtest.wish import BacktestWish, parse_wish
from trading.interrupts import stop_on_signals
from trading.management.progress_line import ProgressLine

_SHOWN = (
    ("profit", "Profit"),
    ("total_return", "Return"),
    ("cagr", "CAGR"),
    ("sharpe", "Sharpe"),
    ("max_drawdown", "Max drawdown"),
    ("trades", "Trades closed"),
    ("win_rate", "Win rate"),
    ("profit_factor", "Profit factor"),
    ("fees", "Fees"),
)
_MONEY = frozenset({"profit", "fees"})
_PERCENT = frozenset({"total_return", "cagr", "max_drawdown", "win_rate"})


class Command(BaseCommand):
    """Run a backtest here, in the foreground."""

    help = (
        "Run strategies over stored bars. Example: manage.py backtest simple_ma_cross.py --symbols AAPL "
        '--source sample --start 2000-03-01 --end 2013-03-01 --params \'{"interval": "1d"}\'. '
        "Ctrl-C ends the run where it is and still prints what came of it."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("files", nargs="+", metavar="FILE", help="strategy files of the registered folders")
        parser.add_argument("--symbols", default="", help="instruments, by commas; empty: those of the parameters")
        parser.add_argument("--start", required=True, help="first day, or moment with zone")
        parser.add_argument("--end", required=True, help="last day, or moment with zone")
        parser.add_argument("--interval", default="", help="base interval; empty: the finest subscribed to")
        parser.add_argument("--source", default="market_data", help="market_data, sample, or parquet:PATH")
        parser.add_argument("--cash", default="100000", help="of each strategy (default: %(default)s)")
        parser.add_argument("--params", default="{}", help="JSON over the files' defaults, for all of them")
        parser.add_argument("--fees", choices=("fixed", "tiered", "none"), default="fixed", help="IB's plan")
        parser.add_argument("--slippage-bps", default="0", help="hundredths of a per cent of the price")
        parser.add_argument("--half-spread", default="0", help="half of bid-ask, in the price's currency")
        parser.add_argument("--tick", default=None, help="step of prices that orders may have; left out: any price")
        parser.add_argument("--participation", default="1", help="share of a bar's volume that orders get, or any")
        parser.add_argument("--adjust", choices=("none", "splits", "all"), default="splits", help="prices for what")
        parser.add_argument("--warm-up-days", type=int, default=0, help="days before the start that may be seen")
        parser.add_argument("--json", action="store_true", help="print the figures as JSON")
        parser.add_argument("--report", type=Path, metavar="FILE", help="write the report there, one HTML file")
        parser.add_argument("--save", action="store_true", help="keep the run, as the page's runs are kept")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run, print."""
        if options["verbosity"] < 2:  # a signal a line would bury the result
            logging.getLogger("strategy").setLevel(logging.WARNING)
        try:
            wish = parse_wish(_wish_of(options))
            launch = launch_of(wish)
            with stop_on_signals() as interrupt, ProgressLine(self.stderr) as line:
                result = run_backtest(launch.spec, progress=line.show, should_stop=interrupt.is_set)
            figures = all_metrics(result)
            result.warnings[:0] = launch.notes
            if options["report"]:
                name = options["report"].stem
                options["report"].write_text(render_report(name, wish, launch, result, figures), encoding="utf-8")
            if options["save"]:
                self._keep(wish, launch, result, figures)
        except MatsError as error:
            raise CommandError(error.message) from error
        except OSError as error:
            raise CommandError(f"The report cannot be written: {error}") from error
        if options["json"]:
            self.stdout.write(json.dumps({"strategies": figures, "warnings": result.warnings}, indent=2))
        else:
            self._print(result, figures)
        failed = [name for name, outcome in result.strategies.items() if outcome.errors]
        if failed:
            self.stderr.write(result.strategies[failed[0]].errors[0])
            raise CommandError(f"Stopped by an error of its own: {', '.join(failed)}.", returncode=2)

    def _keep(self, wish: BacktestWish, launch: Launch, result: BacktestResult, figures: dict[str, Any]) -> None:
        run = store.begin(wish, launch, actor="command line")
        try:
            store.finish(run, result, figures)
        except MatsError as error:
            store.give_up(run, error.message)
            raise
        self.stderr.write(f"Kept as {run.name}.")

    def _print(self, result: BacktestResult, figures: dict[str, dict[str, Any]]) -> None:
        for name, found in figures.items():
            self.stdout.write(f"\n{name}")
            for key, title in _SHOWN:
                self.stdout.write(f"  {title:<14} {_text(key, found.get(key), found['reasons'])}")
        for warning in result.warnings:
            self.stdout.write(f"! {warning}")
        pace = result.bars / result.seconds if result.seconds else 0
        ended = "interrupted at" if result.cancelled else "to"
        self.stdout.write(
            f"\n{result.bars:,} bars, {len(result.fills):,} fills, {result.started:%Y-%m-%d} {ended} "
            f"{result.ended:%Y-%m-%d}; {result.seconds:.2f} s, {pace:,.0f} bars/s."
        )


def _wish_of(options: dict[str, Any]) -> dict[str, Any]:
    try:
        params = json.loads(options["params"])
    except ValueError as error:
        raise CommandError(f"--params is no JSON: {error}") from error
    return {
        "strategies": [{"file": name, "params": params, "cash": options["cash"]} for name in options["files"]],
        "symbols": [one.strip() for one in options["symbols"].split(",") if one.strip()],
        "interval": options["interval"],
        "start": options["start"],
        "end": options["end"],
        "source": options["source"],
        "adjust": options["adjust"],
        "costs": {
            "fees": options["fees"],
            "slippage_bps": options["slippage_bps"],
            "half_spread": options["half_spread"],
            "tick": options["tick"],
            "participation": None if options["participation"] == "any" else options["participation"],
        },
        "warm_up_days": options["warm_up_days"],
    }


def _text(key: str, value: Any, reasons: dict[str, str]) -> str:
    if value is None:
        return f"– ({reasons.get(key, 'undefined')})"
    if key in _PERCENT:
        return f"{value * 100:.2f} %"
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{Decimal(value):,.2f}" if key in _MONEY else str(value)
