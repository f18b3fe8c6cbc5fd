"""``manage.py gateway_fault``: cause trouble at a running paper gateway."""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from strategies.exceptions import MatsError
from trading.gateway import faults
from trading.gateway.faults_control import FILE_NAME, ask_gateway

EXAMPLES = """
examples:
  manage.py gateway_fault "cut 37 execDetails"           the line breaks at byte 37 of the next execution
  manage.py gateway_fault "after 5 outage 60 back=1101"  IB is away for a minute, market data is lost
  manage.py gateway_fault "when placeOrder reboot 4"     the gateway dies at the next order, ids go back by 4
  manage.py gateway_fault status                         what waits and what happened

moments: after SECONDS, at HH:MM, daily HH:MM (New York), when MESSAGE [NTH]; without one the fault happens now.
options: client=ID, count=N|all, skip=N, p=CHANCE, for=SECONDS, where the verb lists them.
verbs:
"""


class Command(BaseCommand):
    """Send one line to the control port of a gateway on this machine."""

    help = "Cause a fault at the paper gateway, which must have been started with --control-port."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        """Show the verbs as they are written."""
        kwargs["epilog"] = EXAMPLES + faults.grammar()
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.formatter_class = RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the line and where the gateway left its token."""
        parser.add_argument("fault", nargs="+", help='the fault, for example "cut 37 execDetails"')
        parser.add_argument(
            "--control-file",
            type=Path,
            default=settings.MATS.mats_home / "gateway" / FILE_NAME,
            help="where the gateway left port and token (default MATS_HOME/gateway/control.json)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask; exit 2 when nobody listens or the line is no fault."""
        line = " ".join(options["fault"])
        try:
            faults.parse(line)
            self.stdout.write(ask_gateway(options["control_file"], line))
        except MatsError as error:
            raise CommandError(error.message, returncode=2) from error
