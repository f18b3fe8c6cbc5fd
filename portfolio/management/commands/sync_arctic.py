"""Bring ArcticDB up to the ledger and the strategies, without an engine."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand

from portfolio.arctic.lock import refuse_beside_engine
from portfolio.arctic.projections import Projector
from portfolio.management.commands._arctic import clear_errors, progress_line


class Command(BaseCommand):
    """Append what ArcticDB lacks."""

    help = (
        "Append to ArcticDB whatever the ledger has and it lacks, and write general/strategies. "
        "A running engine does this by itself; then the command says so and exits with 3."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Flush everything, then the strategies."""
        projector = Projector(refuse_beside_engine)
        with clear_errors(), progress_line(sys.stderr) as progress:
            try:
                result = projector.flush_all(progress)
                strategies = projector.sync_strategies()
                projector.write_current()
            finally:
                projector.close()
        self.stdout.write(
            f"{result.total:,} rows appended to {len(result.rows)} symbols, {strategies} strategies in sync."
        )
        for key, rows in sorted(result.rows.items()):
            self.stdout.write(f"  {key}  +{rows:,}")
