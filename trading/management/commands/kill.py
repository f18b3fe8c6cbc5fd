"""Stop orders at a level: ``manage.py kill``."""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from trading import risk_control
from trading.engine.kill import GLOBAL_CANCEL, HALT, is_of_account
from trading.management.commands.book import run, told

HELP = """
Stop orders; each level does what the one before does.

  kill --level 1 --strategy S   pause: S sends nothing new
  kill --level 2 --strategy S   and its orders are cancelled
  kill --level 3                halt: the account sends nothing new (as manage.py halt)
  kill --level 4 --yes          and IB cancels every order, those made by hand in TWS included
  kill --level 5 --yes          and every position is closed at market; with --strategy S only those of S

Level 3 and above write the file HALT first, which halts also when nothing else answers. The rest is done by the running
engine; this command waits and prints what is left. Release with manage.py resume.

Exit codes: 0 done, 1 refused, failed or no engine (the line says why), 2 the options do not fit.
"""


class Command(BaseCommand):
    """Write the halt file where it belongs, then ask the engine."""

    help = HELP

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        """Keep the line breaks of the help text."""
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--level", type=int, required=True, choices=range(1, 6), help="1 to 5, see above")
        parser.add_argument("--strategy", default="", metavar="SYMBOL", help="levels 1, 2 and 5")
        parser.add_argument("--reason", default="killed by hand", help="why; default: %(default)s")
        parser.add_argument("--yes", action="store_true", help="levels 4 and 5 are meant")
        parser.add_argument("--user", metavar="NAME", help="in whose name (default: cli)")
        parser.add_argument("--wait", type=float, default=120.0, metavar="SECONDS", help="default %(default)g")

    def handle(self, *args: Any, **options: Any) -> None:
        """Halt where it belongs, ask, tell."""
        level, owner = options["level"], options["strategy"]
        if level >= GLOBAL_CANCEL and not options["yes"]:
            raise CommandError("Levels 4 and 5 reach manual orders and positions; add --yes.", returncode=2)
        if level < HALT and not owner:
            raise CommandError("Levels 1 and 2 need --strategy.", returncode=2)
        if is_of_account(level, owner):
            file = risk_control.halt_file()
            file.write(options["reason"], options["user"] or "cli")
            self.stdout.write(f"{file.path} is written; the engine sends nothing new.")
            self.stdout.flush()
        arguments: dict[str, Any] = {"level": level, "reason": options["reason"]}
        if owner:
            arguments["owner"] = owner
        self.stdout.write(told(run("kill", arguments, options["user"], options["wait"])))
