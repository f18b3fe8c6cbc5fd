"""Make an API key and print it, once."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from mats_site.services import create_api_key
from strategies.exceptions import ConfigError


class Command(BaseCommand):
    """The key goes to standard output alone, so that a script can catch it; everything else to standard error."""

    help = "Make an API key for a user and print it; it cannot be shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--user", required=True, help="Whose rights the key carries.")
        parser.add_argument("--name", required=True, help="What it is for.")
        parser.add_argument("--write", action="store_true", help="May change state; otherwise it only reads.")
        parser.add_argument(
            "--expires-days", type=int, default=365, help="Days until it expires (default 365); 0 for never."
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Make the key."""
        username = options["user"]
        user = get_user_model().objects.filter(username=username).first()
        if user is None:
            raise CommandError(f"There is no user {username!r}.")
        try:
            key, text = create_api_key(
                user, options["name"], can_write=options["write"], expires_days=options["expires_days"] or None
            )
        except ConfigError as error:
            raise CommandError(error.message) from error
        until = f"until {key.expires_at:%Y-%m-%d}" if key.expires_at else "without expiry"
        self.stderr.write(f"Key {key.public_id} for {username}, {until}. Store it now: it is not kept.")
        self.stdout.write(text)
