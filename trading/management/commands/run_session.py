"""Run a session: ``manage.py run_session CONFIG|NAME``."""

from __future__ import annotations

import csv
import logging
import sys
import threading
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from strategies.exceptions import MatsError, NotFoundError
from trading.interrupts import stop_on_signals
from trading.management.commands.run_engine import check_database
from trading.market.session_config import RunMode, SessionConfig, load_session_config
from trading.market.session_status import Phase, SessionStatus
from trading.session_backtest import BacktestSession, build_backtest
from trading.session_live import follow_live
from trading.session_runs import RunRecorder, close_lost_runs
from trading.session_services import checked_session, find_session

EXIT_FAILED, EXIT_UNUSABLE, EXIT_NO_ENGINE, EXIT_STOPPED = 1, 2, 3, 130
DEFAULT_SPEED = 60.0
LINE_EVERY_S = 0.2
PLAIN_EVERY_S = 5.0


class Command(BaseCommand):
    """Go through the days of a session with its strategies and scanners."""

    help = (
        "Run a session from a file or a saved configuration.\n\n"
        "A backtest runs here, on stored bars and simulated fills: from bar to bar, or with --speed minute by minute.\n"
        "A live session runs in the engine; this command starts it there and follows it. Ctrl-C ends the session in\n"
        "order. Exit codes: 0 it ended, 1 it failed, 2 it cannot be run as configured, 3 no engine, 130 Ctrl-C."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        """Keep the line breaks of the help."""
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("config", metavar="CONFIG|NAME", help="a JSON file, or the name of a saved session")
        parser.add_argument("--mode", choices=[mode.value for mode in RunMode], help="instead of the configuration's")
        parser.add_argument("--speed", type=float, help="clock-driven: so many times faster than the market")
        parser.add_argument("--source", help="stored bars: market_data, sample or parquet:NAME.parquet")
        parser.add_argument("--fills", type=Path, metavar="FILE", help="write the fills as CSV")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it; the exit code tells how it ended."""
        if options["verbosity"] < 2:  # a signal a line would bury the line of progress
            for name in ("strategy", "scanner", "trading.market"):
                logging.getLogger(name).setLevel(logging.WARNING)
        check_database()
        try:
            config = read_config(options["config"], options)
        except MatsError as error:
            raise CommandError(words_of(error), returncode=EXIT_UNUSABLE) from error
        close_lost_runs()
        if config.run_mode is RunMode.LIVE:
            self._live(config, options["config"])
            return
        self._backtest(config, options)

    # -- a backtest, here

    def _backtest(self, config: SessionConfig, options: dict[str, Any]) -> None:
        recorder = RunRecorder(config.session_name, config.run_mode.value)
        progress = ProgressLine(self.stdout.write, is_terminal=sys.stderr.isatty())
        try:
            session = build_backtest(config, Watchers(recorder, progress))
            with stop_on_signals() as interrupted:
                session.system.start_session(config)
                phase = follow(session, interrupted)
        except MatsError as error:
            recorder.fail(str(error.fields.get("trace", "")), error.message)
            raise CommandError(f"The session failed. {error.message}", returncode=EXIT_FAILED) from error
        finally:
            progress.end()
        coordinator = session.system.get_coordinator()
        if options["fills"] is not None:
            write_fills(session, options["fills"])
        self.stdout.write(summary(session, recorder.run.pk))
        session.system.shutdown()
        if phase is Phase.FAILED:
            recorder.fail(coordinator.error, coordinator.status().message)
            raise CommandError(f"The session failed. {coordinator.status().message}", returncode=EXIT_FAILED)
        if phase is Phase.STOPPED:
            raise CommandError("Stopped by Ctrl-C; what it did until then is kept.", returncode=EXIT_STOPPED)

    # -- live, in the engine

    def _live(self, config: SessionConfig, name: str) -> None:
        with stop_on_signals() as interrupted:
            outcome = follow_live(config.session_name, interrupted.is_set, self.stdout.write)
        if outcome.error:
            raise CommandError(outcome.error, returncode=EXIT_NO_ENGINE if outcome.no_engine else EXIT_FAILED)
        if interrupted.is_set():
            raise CommandError("Stopped by Ctrl-C; positions stay as they are.", returncode=EXIT_STOPPED)


def read_config(named: str, options: dict[str, Any]) -> SessionConfig:
    """Return the configuration of a file or a row, with what the command line changes of it.

    Raises: ConfigError, NotFoundError.
    """
    path = Path(named)
    if path.suffix == ".json" or path.exists():
        if not path.is_file():
            raise NotFoundError(f"There is no file {named}.", code="no_file")
        config = load_session_config(path)
        name = config.session_name if config.session_name != "session" else tidy_name(path.stem)
    else:
        row = find_session(named)
        config, name = checked_session(row.name, row.config), row.name
    raw = config.model_dump(mode="json", exclude={"session_name"})
    mode, speed = options.get("mode"), options.get("speed")
    if mode is not None:
        raw["mode"] = "live" if mode == RunMode.LIVE else "backtest"
    backtest = raw.get("backtest_config")
    if backtest is not None and (mode is not None or speed is not None):
        backtest["speed_multiplier"] = (
            0
            if mode == RunMode.DATA_DRIVEN
            else speed or (backtest["speed_multiplier"] or (DEFAULT_SPEED if mode == RunMode.CLOCK_DRIVEN else 0))
        )
    if options.get("source"):
        raw["api_config"]["data_source"] = options["source"]
    return checked_session(name, raw)


def tidy_name(stem: str) -> str:
    """Return a file's name as a session's.

    >>> tidy_name("2024 my test")
    's-2024-my-test'
    """
    kept = "".join(letter if (letter.isascii() and letter.isalnum()) or letter in "_-" else "-" for letter in stem)
    return (kept if kept[:1].isalpha() else f"s-{kept}")[:64]


def words_of(error: MatsError) -> str:
    """Return an error with every place on a line of its own."""
    errors = error.fields.get("errors")
    if not isinstance(errors, dict):
        return error.message
    lines = [f"  {place}: {reason}" if place else f"  {reason}" for place, reason in errors.items()]
    return "\n".join(["The session's configuration cannot be used.", *lines])


def follow(session: BacktestSession, interrupted: threading.Event) -> Phase:
    """Wait for the end, or end it when asked to."""
    while True:
        phase = session.system.wait(0.1)
        if phase is not None:
            return phase
        if interrupted.is_set():
            session.system.stop_session()
            return session.system.wait(0) or Phase.STOPPED


class Watchers:
    """Tells the record and the line of progress."""

    def __init__(self, recorder: RunRecorder, progress: ProgressLine) -> None:
        self._recorder, self._progress = recorder, progress

    def phase(self, status: SessionStatus) -> None:
        """Tell both."""
        self._recorder.phase(status)
        self._progress.show(status)

    def progress(self, make: Callable[[], SessionStatus]) -> None:
        """Tell both."""
        self._recorder.progress(make)
        self._progress.progress(make)

    def scanned(self, record: Any) -> None:
        """Keep the scan."""
        self._recorder.scanned(record)


class ProgressLine:
    """One line that moves on a terminal, a line now and then elsewhere."""

    def __init__(self, write: Callable[[str], Any], *, is_terminal: bool) -> None:
        self._write, self._is_terminal = write, is_terminal
        self._shown_at = float("-inf")
        self._is_open = False

    def progress(self, make: Callable[[], SessionStatus]) -> None:
        """Show how far it is, not too often."""
        every = LINE_EVERY_S if self._is_terminal else PLAIN_EVERY_S
        if time.monotonic() - self._shown_at >= every:
            self.show(make())

    def show(self, status: SessionStatus) -> None:
        """Show a moment."""
        self._shown_at = time.monotonic()
        if self._is_terminal:
            sys.stderr.write(f"\r\x1b[K{line_of(status)}")
            sys.stderr.flush()
            self._is_open = True
        else:
            self._write(line_of(status))

    def end(self) -> None:
        """Leave the line."""
        if self._is_open:
            sys.stderr.write("\n")
            self._is_open = False


def line_of(status: SessionStatus) -> str:
    """Return a moment of a session in one line."""
    totals = status.metrics.get("totals", {})
    figures = [
        f"{totals[name]} {name}" for name in ("bars", "signals", "fills", "denied", "errors") if totals.get(name)
    ]
    clock = f"{status.clock:%Y-%m-%d %H:%M}Z" if status.clock is not None else ""
    return "  ".join(part for part in (f"{status.phase.value:<10}", clock, ", ".join(figures), status.message) if part)


def summary(session: BacktestSession, run_id: int) -> str:
    """Return what each strategy came to."""
    lines = []
    for name, row in session.desk.figures().items():
        held = ", ".join(f"{symbol} {quantity}" for symbol, quantity in row["positions"].items()) or "flat"
        lines.append(
            f"{name}: equity {row['equity']}, realised {row['realized']}, fees {row['fees']}, {row['fills']} fills, "
            f"{row['denied']} denied, {held}"
        )
    return "\n".join([*lines, f"Session run {run_id}."])


def write_fills(session: BacktestSession, path: Path) -> None:
    """Write the fills as CSV: UTC times, signed quantities."""
    from strategies.bar_series import moment_of

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", "strategy", "symbol", "quantity", "price", "fee", "order", "type", "reason"])
        for fill in session.desk.fills:
            at = moment_of(fill.time_ns).isoformat()
            writer.writerow(
                [at, fill.strategy, fill.symbol, f"{fill.quantity:f}", f"{fill.price:f}", f"{fill.fee:f}",
                 fill.order_id, fill.order_type, fill.reason]
            )  # fmt: skip
