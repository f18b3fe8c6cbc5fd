"""Bring bars into ArcticDB: ``manage.py ingest_bars AAPL --timeframe 1m --start 2024-01-01``, or ``--file FILE``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from strategies.exceptions import MatsError
from trading.interrupts import stop_on_signals
from trading.market.ingest import run_ingest
from trading.market.ingest_progress import duration

STOPPED = 130
_OPTIONS = (
    "timeframe", "start", "end", "sec_type", "exchange", "currency", "con_id", "what", "calendar", "zone", "prices",
    "on_conflict", "symbol",
)  # fmt: skip


class Command(BaseCommand):
    """Ingest from IB or a file."""

    help = (
        "Bring bars, splits and dividends into ArcticDB's market_data. From IB: name symbols and --timeframe; the "
        "download joins on to what is stored, and running it again goes on where it ended. From CSV or Parquet, ours or"
        " Yahoo's: --file. Nothing that is stored is replaced unless --on-conflict replace says so. Ctrl-C stops after "
        "the request under way."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Say what to bring."""
        parser.add_argument("symbols", nargs="*", help="tickers; a pair as EUR.USD with --sec-type CASH")
        parser.add_argument("--file", help="CSV or Parquet file instead of IB")
        parser.add_argument("--timeframe", help="1m, 5m, 1h, 1d, 1w, 5_secs, …; of a file it is found out without")
        parser.add_argument("--start", help="date; without it as far back as IB goes")
        parser.add_argument("--end", help="date; without it now")
        parser.add_argument("--all-hours", action="store_true", help="pre- and post-market as well")
        for name, text in (
            ("--sec-type", "STK (default), CASH, IND, FUT, CONTFUT, CMDTY, CRYPTO"),
            ("--exchange", "SMART by default"),
            ("--currency", "USD by default"),
            ("--con-id", "IB's id of the contract, for futures and the like"),
            ("--what", "TRADES (default), MIDPOINT, BID, ASK"),
            ("--calendar", "exchange_calendars' name of the trading days, XNYS by default, none for none"),
            ("--symbol", "of a file that does not say it"),
            ("--zone", "of a file's times that name none, such as America/New_York"),
            ("--prices", "raw or split-adjusted, where a daily file does not show it"),
            ("--on-conflict", "bars stored otherwise: refuse (default), keep, replace"),
        ):
            parser.add_argument(name, help=text)
        parser.add_argument(
            "--fill-gaps",
            action="store_true",
            help="only the bars that stored series lack, of all of them or of those named by symbols and --timeframe; "
            "with --file from the file instead of IB",
        )
        parser.add_argument(
            "--ask-again", action="store_true", help="with --fill-gaps: also where IB had nothing the last time"
        )
        parser.add_argument("--split", action="append", metavar="DAY=RATIO", help="such as 2020-08-31=4:1")
        parser.add_argument("--dividend", action="append", metavar="DAY=AMOUNT", help="such as 2020-08-07=0.82")

    def handle(self, *args: Any, symbols: list[str], **options: Any) -> None:
        """Run it and say what came of it."""
        asked = _asked(symbols, options)
        with stop_on_signals() as stop, _line() as tell:
            try:
                result = run_ingest(asked, tell, stop.is_set)
            except MatsError as error:
                raise CommandError(error.message) from error
        if options["fill_gaps"] and not result["series"] and not result["failed"] and not result["cancelled"]:
            self.stdout.write("Nothing is missing between the first and the last bar of these series.")
        for row in result["series"]:
            self.stdout.write(_said(row))
        for row in result["failed"]:
            self.stderr.write(f"{row['symbol']}: {row['error']}")
        rate = result["bars"] / result["seconds"] if result["seconds"] else 0.0
        self.stdout.write(f"{result['bars']:,} new bars in {duration(result['seconds'])}, {rate:,.0f} bars/s.")
        if result["cancelled"]:
            raise CommandError("Stopped; run it again to go on.", returncode=STOPPED)
        if result["failed"]:
            raise CommandError(f"{len(result['failed'])} of the symbols failed.")


def _asked(symbols: list[str], options: dict[str, Any]) -> dict[str, Any]:
    asked = {name: options[name] for name in _OPTIONS if options.get(name) is not None}
    if options["all_hours"]:
        asked["use_rth"] = False
    pairs = {name: dict(_pair(text) for text in options[name] or ()) for name in ("split", "dividend")}
    if pairs["split"] or pairs["dividend"]:
        return {"source": "actions", "symbols": symbols, "splits": pairs["split"], "dividends": pairs["dividend"]}
    if options["ask_again"] and (options["file"] or not options["fill_gaps"]):
        raise CommandError("--ask-again belongs to --fill-gaps from IB.", returncode=2)
    if options["fill_gaps"]:
        asked["fill_gaps"] = True
        if not options["file"]:
            return {"source": "ib", "symbols": symbols, "ask_again": options["ask_again"], **asked}
    if bool(options["file"]) == bool(symbols):
        raise CommandError("Name symbols to download, or give --file.", returncode=2)
    if options["file"]:
        return {"source": "file", "path": options["file"], **asked}
    if not options["timeframe"]:
        raise CommandError("Say --timeframe, such as 1m or 1d.", returncode=2)
    return {"source": "ib", "symbols": symbols, **asked}


def _pair(text: str) -> tuple[str, str]:
    day, equals, value = text.partition("=")
    if not equals:
        raise CommandError(f"Write {text} as DAY=VALUE, such as 2020-08-31=4:1.", returncode=2)
    return day, value


def _said(row: dict[str, Any]) -> str:
    span = f" {str(row['first'])[:16]} to {str(row['last'])[:16]}" if row["first"] else ""
    notes = "".join(f"\n  {note}" for note in row["notes"])
    replaced = f", {row['replaced']:,} replaced" if row["replaced"] else ""
    return (
        f"{row['series']} {row['timeframe']}: {row['new']:,} new, {row['known']:,} were there{replaced};{span}.{notes}"
    )


@contextmanager
def _line() -> Iterator[Any]:
    """Show progress in place on a terminal, and nothing in a log; the line is gone at the end."""
    out, is_terminal = sys.stderr, sys.stderr.isatty()

    def tell(done: float, words: str) -> None:
        if is_terminal:
            out.write(f"\r{done:4.0%} {words}\x1b[K")
            out.flush()

    try:
        yield tell
    finally:
        if is_terminal:
            out.write("\r\x1b[K")
            out.flush()
