"""``manage.py check_strategies``: load every strategy file and check every strategy row; exit 1 when one fails."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from strategies import queries, services
from strategies.exceptions import ConfigError, LoadError
from strategies.loader import LoadedStrategy, list_strategy_files, load_strategy_class
from strategies.models import Strategy
from strategies.params import validate_params


class Command(BaseCommand):
    """Lists files, then rows, one line each."""

    help = "Load every strategy file and check every strategy row; exits with 1 when one cannot start."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--save", action="store_true", help="Also record the outcome on the rows.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check files and rows; say what is wrong with each.

        Raises: CommandError when something is wrong.
        """
        faults = 0
        for path in list_strategy_files():
            fault = _file_fault(path.name)
            faults += bool(fault)
            self._line("file", path.name, fault, str(path.parent))
        for row in queries.list_strategies():
            strategy = services.revalidate(row.symbol) if options["save"] else row
            fault = _row_fault(strategy)
            faults += bool(fault)
            self._line("strategy", strategy.symbol, fault, strategy.filename)
        total = queries.target_weight_total()
        if total > 1:
            self.stdout.write(self.style.WARNING(f"warning   target weights add up to {total.normalize():f}"))
        if faults:
            raise CommandError(f"{faults} problem(s) found.")

    def _line(self, noun: str, name: str, fault: str, note: str) -> None:
        mark = self.style.ERROR("failed") if fault else self.style.SUCCESS("ok    ")
        self.stdout.write(f"{mark}    {noun} {name}: {fault or note}")


def _file_fault(filename: str) -> str:
    try:
        loaded = load_strategy_class(filename)
        validate_params(loaded, loaded.params)
    except (LoadError, ConfigError) as error:
        return error.message
    return ""


def _row_fault(strategy: Strategy) -> str:
    try:
        loaded: LoadedStrategy = load_strategy_class(strategy.filename)
        services.effective_params(strategy, loaded)
    except (LoadError, ConfigError) as error:
        return error.message
    return ""
