"""Make strategies from a table in ArcticDB."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portfolio.arctic.client import get_ac
from portfolio.arctic.strategies_table import LIBRARY, SYMBOL, read_strategies
from portfolio.management.commands._arctic import clear_errors
from strategies.exceptions import MatsError
from strategies.models import Strategy
from strategies.services import save_strategy

_FIELDS = (
    "name",
    "description",
    "color",
    "filename",
    "target_weight",
    "min_weight",
    "max_weight",
    "currency",
    "params",
    "active",
    "restart_policy",
)


class Command(BaseCommand):
    """Import general/strategies."""

    help = (
        "Create strategies from rows written into ArcticDB by hand or by older versions (columns «parameters» and "
        "flags as text are understood). Existing strategies are left alone unless --update is given."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Where to read, and whether to overwrite."""
        parser.add_argument("--library", default=LIBRARY, help="ArcticDB library (default: %(default)s)")
        parser.add_argument("--symbol", default=SYMBOL, help="table in it (default: %(default)s)")
        parser.add_argument("--update", action="store_true", help="change strategies that exist already")
        parser.add_argument("--dry-run", action="store_true", help="say what would happen and change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Read the table and save its rows one by one; a bad row is reported and the others go on."""
        with clear_errors():
            rows = read_strategies(get_ac(), options["library"], options["symbol"])
        failed = 0
        for row in rows:
            try:
                done = self._import(row, options)
            except MatsError as error:
                failed += 1
                self.stderr.write(
                    f"{row['strategy_symbol']}: {error.message} {error.fields.get('errors', '')}".rstrip()
                )
            else:
                self.stdout.write(f"{row['strategy_symbol']}: {done}")
        if failed:
            raise CommandError(f"{failed} of {len(rows)} rows could not be imported.")
        self.stdout.write(f"{len(rows)} rows read.")

    def _import(self, row: dict[str, Any], options: dict[str, Any]) -> str:
        exists = Strategy.objects.filter(symbol=row["strategy_symbol"]).exists()
        if exists and not options["update"]:
            return "exists, left alone"
        if options["dry_run"]:
            return "would be changed" if exists else "would be created"
        fields = {name: row[name] for name in _FIELDS if name in row}
        save_strategy({"symbol": row["strategy_symbol"], **fields}, None)
        return "changed" if exists else "created"
