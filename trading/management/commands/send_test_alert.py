"""Send a test message to every channel of MATS_ALERT_URLS and say of each whether it arrived."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from trading.alert_rules import RANK
from trading.channels import send_by_apprise

TITLE = "[MATS test] This channel works"
TEXT = "Sent by hand with send_test_alert; nothing is wrong."


class Command(BaseCommand):
    """Needs no engine and changes nothing."""

    help = "Send a test message to every alert channel, or to one."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--channel", help="Only this one, by its name.")
        parser.add_argument("--severity", choices=list(RANK), default="info", help="How grave it looks.")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Send, and tell; exit code 1 when one failed."""
        wanted = [one for one in settings.MATS.alert_channels if options["channel"] in (None, one.name)]
        if not wanted:
            raise CommandError(
                f"There is no channel {options['channel']}."
                if options["channel"]
                else "No channel is set: MATS_ALERT_URLS is empty."
            )
        failures = 0
        for channel in wanted:
            error = send_by_apprise(channel, TITLE, TEXT, options["severity"])
            failures += bool(error)
            self.stdout.write(f"{channel.name} (from {channel.threshold}): {error or 'delivered'}")
        if failures:
            raise CommandError(f"{failures} of {len(wanted)} channels failed.")
