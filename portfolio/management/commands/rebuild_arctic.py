"""Write ArcticDB's histories again from the ledger."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portfolio.arctic.projections import Projector
from portfolio.management.commands._arctic import clear_errors, progress_line


class Command(BaseCommand):
    """Rebuild projected symbols."""

    help = (
        "Write fills, positions and orders in ArcticDB again from the ledger; the result equals what was there. "
        "Exits with 3 while another process (the engine) writes to ArcticDB."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Name the symbols, or all."""
        parser.add_argument("symbols", nargs="*", help="for example DU1000001:fills/ALPHA")
        parser.add_argument("--all", action="store_true", help="every symbol that the ledger feeds")

    def handle(self, *args: Any, symbols: list[str], **options: Any) -> None:
        """Rebuild and say what was written."""
        if bool(symbols) == bool(options["all"]):
            raise CommandError("Name the symbols to rebuild, or give --all.")
        projector = Projector()
        with clear_errors(), progress_line(sys.stderr) as progress:
            try:
                result = projector.rebuild(None if options["all"] else symbols, progress)
            finally:
                projector.close()
        unknown = sorted(set(symbols) - set(result.rows))
        for key, rows in sorted(result.rows.items()):
            self.stdout.write(f"{key}  {rows:,} rows")
        if unknown:
            raise CommandError(f"The ledger feeds no symbol named {', '.join(unknown)}; nothing was written for it.")
