"""Write ArcticDB's histories again from the ledger."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from portfolio.arctic.address import folder_of
from portfolio.arctic.health import put_damaged_aside
from portfolio.arctic.lock import refuse_beside_engine, writer_lock_of
from portfolio.arctic.projections import Projector
from portfolio.management.commands._arctic import clear_errors, progress_line


class Command(BaseCommand):
    """Rebuild projected symbols."""

    help = (
        "Write the histories in ArcticDB (fills, positions, orders, hours, rates) again from the ledger; the result "
        "equals what was there. With --all, damaged LMDB libraries are put aside first. "
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
        projector = Projector(refuse_beside_engine)
        with clear_errors(), progress_line(sys.stderr) as progress:
            try:
                if options["all"]:
                    self._put_aside()
                result = projector.rebuild(None if options["all"] else symbols, progress)
                if options["all"]:
                    projector.sync_strategies()
            finally:
                projector.close()
        unknown = sorted(set(symbols) - set(result.rows))
        for key, rows in sorted(result.rows.items()):
            self.stdout.write(f"{key}  {rows:,} rows")
        if unknown:
            raise CommandError(f"The ledger feeds no symbol named {', '.join(unknown)}; nothing was written for it.")

    def _put_aside(self) -> None:
        """Clear the way: opening a damaged library could end this process."""
        folder = folder_of(settings.MATS.arctic_uri)
        if folder is None:
            return
        refuse_beside_engine()
        with writer_lock_of(folder):
            for path in put_damaged_aside(folder, timezone.now()):
                self.stderr.write(f"A damaged library was put aside: {path}. What the ledger has comes back now.")
