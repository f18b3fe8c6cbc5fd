"""Import IB's Flex statement: ``manage.py import_flex FILE``, ``import_flex --download``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portfolio.flex import check_statement, fetch_statement, store
from portfolio.flex.parse import parse_flex
from portfolio.management.commands._arctic import text_line
from portfolio.models import Account
from strategies.exceptions import MatsError
from trading.management.commands.book import run
from trading.models import EngineCommand


class Command(BaseCommand):
    """Look at a statement, or have the running engine book it."""

    help = (
        "Compare IB's Flex statement (XML) with the books and book what they lack: the running engine does it and this "
        "command tells how it ended. --download fetches the statement with MATS_FLEX_TOKEN and MATS_FLEX_QUERY. "
        "--check only compares, books nothing and needs no engine. A terminal shows how far the import is. "
        "Exit codes: 0 done, 1 refused or failed (the line says why), 2 the options do not fit, 3 open findings remain."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("file", nargs="?", type=Path, help="the statement's XML file")
        parser.add_argument("--download", action="store_true", help="fetch the statement from IB instead")
        parser.add_argument("--check", action="store_true", help="compare only")
        parser.add_argument("--account", default="", help="whose books, when there are several")
        parser.add_argument("--user", metavar="NAME", help="in whose name (default: cli)")
        parser.add_argument("--wait", type=float, default=600.0, metavar="SECONDS", help="default %(default)g")

    def handle(self, *args: Any, **options: Any) -> None:
        """Get the file, then check it or hand it over."""
        if (options["file"] is None) != options["download"]:
            raise CommandError("Give either a file or --download.", returncode=2)
        with text_line(sys.stderr) as show:
            found = _outcome(options, show)
        self._tell(found)

    def _tell(self, result: dict[str, Any]) -> None:
        """Print counts and open findings; open ones end the command with 3."""
        self.stdout.write(str(result.get("summary", "Done.")))
        for name, count in sorted(result.get("passed_over", {}).items()):
            self.stdout.write(f"  passed over: {name} ×{count}")
        found = result.get("open", [])
        for line in found:
            self.stdout.write(f"  {line['kind']}: {line['text']}")
        if found:
            raise SystemExit(3)


def _outcome(options: dict[str, Any], show: Callable[[str], None]) -> dict[str, Any]:
    """Return what the check or the import found; ``show`` is told how far it is."""
    try:
        account = _account(options["account"])
        if options["download"]:
            show("Waiting for IB to make the statement, up to five minutes.")
        source = fetch_statement() if options["download"] else options["file"]
        if options["check"]:
            return check_statement(source, account_id=account).as_json()
        data = store.read(source)
        parse_flex(data, account)  # a file that is refused anyway is refused here, and never kept
        digest = store.keep(data)
    except MatsError as error:
        raise CommandError(error.message) from error
    outcome = run("import_flex", {"sha256": digest}, options["user"], options["wait"], lambda one: show(_step(one)))
    return outcome.result if isinstance(outcome.result, dict) else {}


def _step(command: EngineCommand) -> str:
    """Return how far a running import is, in words."""
    said = command.result if isinstance(command.result, dict) else {}
    return str(said.get("text") or f"The import is {command.state}.")


def _account(wanted: str) -> str:
    known = list(Account.objects.values_list("account_id", flat=True))
    if wanted or len(known) != 1:
        if wanted not in known:
            raise CommandError(
                f"There are books of {', '.join(sorted(known)) or 'no account'}; choose one with --account.",
                returncode=2,
            )
        return wanted
    return known[0]
