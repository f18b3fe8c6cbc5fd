"""Import a list of symbols: ``manage.py import_universe sp500.csv univ/sp500``."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from strategies.exceptions import MatsError
from trading.market.universe import read_universe, store_universe


class Command(BaseCommand):
    """Import a universe."""

    help = (
        "Store a CSV or Parquet list with a column Symbol (or Ticker) in ArcticDB as a universe, which strategies name "
        "as library/symbol: univ/sp500, us_equities/ALL_STOCKS. It replaces the one of that name."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Name file and universe."""
        parser.add_argument("file", help="CSV or Parquet")
        parser.add_argument("universe", help="library/symbol, such as univ/sp500")

    def handle(self, *args: Any, file: str, universe: str, **options: Any) -> None:
        """Import it."""
        library, slash, symbol = universe.partition("/")
        if not slash or not symbol:
            raise CommandError(f"Write {universe} as library/symbol, such as univ/sp500.", returncode=2)
        path = Path(file)
        try:
            table = read_universe(path)
            version = store_universe(library, symbol, table, source=f"file:{path.name}"[:80])
        except MatsError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"{universe}: {len(table):,} symbols, {len(table.columns)} columns, version {version}.")
