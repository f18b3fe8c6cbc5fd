"""What data there are: ``manage.py data``, ``manage.py data market_data/AAPL_1_min``."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portfolio.arctic.client import get_ac
from strategies.exceptions import MatsError
from trading.market import catalog
from trading.market.catalog import Detail, Series
from trading.market.catalog_rows import detail_row, gap_row, series_row

BUDGET_S = 600.0


class Command(BaseCommand):
    """List or look."""

    help = (
        "List every series in ArcticDB with its first and last bar, how whole it is against the exchange's calendar, "
        "and its version. With a name, its gaps as well. The ledger's libraries are not listed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Name a series, or a part of a name."""
        parser.add_argument("name", nargs="?", default="", help="library/symbol, or a part of a name")
        parser.add_argument("--json", action="store_true", help="one JSON document")

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        """Print it."""
        try:
            client = get_ac()
            library, _, symbol = name.partition("/")
            if symbol and client.has_symbol(library, symbol):
                detail = catalog.look(client, library, symbol)
                self.stdout.write(_as_json(detail_row(detail)) if options["json"] else _detail(detail))
                return
            rows = catalog.list_series(client, query=name, budget_s=BUDGET_S)
            if name and not rows:
                raise CommandError(f"No name holds «{name}».")
        except MatsError as error:
            raise CommandError(error.message) from error
        if options["json"]:
            self.stdout.write(_as_json([series_row(one) for one in rows]))
            return
        for one in rows:
            self.stdout.write(_line(one))
        self.stdout.write(f"{len(rows)} series." if rows else "There is nothing yet; see docs/data.md.")


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=2, default=lambda one: one.isoformat() if isinstance(one, datetime) else str(one))


def _line(one: Series) -> str:
    whole = one.coverage
    percent = "" if whole is None or whole.percent is None else f"  {whole.percent:.2f} %"
    gaps = "" if whole is None or not whole.gaps else f", {len(whole.gaps):,} gaps"
    return f"{one.library}/{one.name}  {one.rows:,} rows  {_span(one)}{percent}{gaps}"


def _span(one: Series) -> str:
    if one.first is None or one.last is None:
        return ""
    return f"{one.first:%Y-%m-%d %H:%M} – {one.last:%Y-%m-%d %H:%M}"


def _detail(detail: Detail) -> str:
    one, whole = detail.series, detail.series.coverage
    lines = [
        _line(one),
        f"  version {one.version}, {(detail.size_bytes or 0) / 1e6:,.1f} MB, from {one.source or 'unknown'}",
    ]
    if whole is None:
        lines.append(f"  {one.no_calendar or 'no bars'}")
        return "\n".join(lines)
    lines.append(
        f"  {whole.present:,} of {whole.expected:,} bars of {one.calendar}, {whole.outside:,} beyond its hours"
    )
    lines += [
        f"  gap of {gap.bars:,} bars: {row['first']:%Y-%m-%d %H:%M} – {row['last']:%Y-%m-%d %H:%M}"
        for gap in detail.gaps
        for row in [gap_row(gap)]
    ]
    if detail.gaps_left:
        lines.append(f"  and {detail.gaps_left:,} more gaps")
    return "\n".join(lines)
