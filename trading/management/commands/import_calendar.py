"""Import holidays: ``manage.py import_calendar holidays.csv``."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from strategies.exceptions import MatsError
from trading.calendar_services import import_holidays
from trading.market.calendar_import import read_holidays

MAX_BYTES = 4_000_000


class Command(BaseCommand):
    """Store the holidays and early closes of a file."""

    help = (
        "Store the holidays and early closes of a CSV file (columns group, day, name, closes_at, is_open). A second "
        "run changes nothing. --check only reads the file. Exit codes: 0 done, 1 refused: the line says why, and "
        "nothing was stored."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("file", type=Path, help="the CSV file, UTF-8")
        parser.add_argument("--group", help="group of exchanges of rows that name none, such as US_EQUITY")
        parser.add_argument("--check", action="store_true", help="read only, store nothing")
        parser.add_argument("--user", metavar="NAME", default="cli", help="in whose name (default: cli)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Read, then store."""
        path: Path = options["file"]
        try:
            if path.stat().st_size > MAX_BYTES:
                raise CommandError(f"{path.name} is larger than {MAX_BYTES} bytes.")
            rows = read_holidays(path.read_text(encoding="utf-8"), options["group"])
            if options["check"]:
                self.stdout.write(f"{len(rows)} days can be imported.")
                return
            done = import_holidays(rows, actor=options["user"], source="cli")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{path.name} cannot be read: {error}") from error
        except MatsError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"{done.added} added, {done.changed} changed, {done.kept} there already.")
