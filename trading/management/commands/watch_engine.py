"""The dead-man switch: ``manage.py watch_engine``, a small process beside the engine."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection
from django.utils import timezone

from strategies.exceptions import ConfigError, MatsError
from trading import alerts, risk_control
from trading.engine import dead_man
from trading.engine.options import account_rule
from trading.engine.pulse import Pulse
from trading.ib.connection import IBConnection
from trading.models import Severity
from trading.risk_models import DeadManRun

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
ALERT_KEY = "dead-man"
ACTOR = "watch_engine"


class Command(BaseCommand):
    """Watch, and act once for each death."""

    help = (
        "Watch the engine's sign of life, and when it is missing do what is configured: alert (default), cancel every "
        "order at the gateway, or flatten the account. Runs beside the engine, not under its supervisor. An engine "
        "that was stopped in order is not missed. --drill practises flattening on a paper account at once and records "
        "how long it took; the account stays halted afterwards (manage.py resume). Exit codes: 0 ended, 1 the drill "
        "or the deed failed, 2 the options do not fit."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        mats = settings.MATS
        parser.add_argument(
            "--after", type=float, default=mats.deadman_after_s, metavar="SECONDS", help="default %(default)g"
        )
        parser.add_argument(
            "--action", choices=dead_man.ACTIONS, default=mats.deadman_action, help="default %(default)s"
        )
        parser.add_argument(
            "--client-id", type=int, default=mats.deadman_client_id, metavar="ID", help="default %(default)s"
        )
        parser.add_argument("--once", action="store_true", help="end after the first death")
        parser.add_argument("--drill", action="store_true", help="flatten the paper account now and measure it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Practise, or watch until ended."""
        if options["client_id"] <= 99:
            raise CommandError("Client ids 0 to 99 are the engine's; take another.", returncode=2)
        try:
            if options["drill"]:
                self._drill(options)
            else:
                self._watch(options)
        except KeyboardInterrupt:
            self.stdout.write("Ended.")

    def _drill(self, options: dict[str, Any]) -> None:
        if not account_rule(settings.MATS).paper_only:
            raise CommandError("A drill flattens the account; it is for paper accounts.", returncode=2)
        deed = self._act(dead_man.FLATTEN, 0.0, options["client_id"], drill=True)
        if deed.done_s is None:
            raise CommandError(deed.error or f"{deed.left_orders} orders and {deed.left_positions} positions are left.")
        self.stdout.write(f"Flat in {deed.done_s:.3f} s. The account is halted; release it with manage.py resume.")

    def _watch(self, options: dict[str, Any]) -> None:
        pulse, stop = Pulse(settings.MATS.mats_home), threading.Event()
        self.stdout.write(f"Watching; after {options['after']:g} s of silence: {options['action']}.")
        acted = False
        while not stop.wait(LOOK_EVERY_S):
            found = dead_man.silence(pulse)
            connection.close()
            if not found.expected or found.seconds < options["after"]:
                if acted and found.expected:
                    self._over()
                acted = False
                continue
            if acted:
                continue
            acted = True
            self._act(options["action"], found.seconds, options["client_id"])
            if options["once"]:
                return

    def _act(self, action: str, silent_s: float, client_id: int, *, drill: bool = False) -> dead_man.Deed:
        """Halt, do it, record it; every step even when the one before failed."""
        text = "Practised." if drill else f"The engine gave no sign of life for {silent_s:.0f} s."
        logger.error("dead-man switch action=%s silent_s=%.1f drill=%s", action, silent_s, drill)
        if action != dead_man.ALERT:
            self._halt(f"Dead-man switch: {text}")
        deed = dead_man.Deed() if action == dead_man.ALERT else self._at_the_gateway(action, client_id)
        told = "; ".join(part for part in (text, ", ".join(deed.sent), deed.error) if part)
        self._record(action, silent_s, deed, told, drill=drill)
        self.stdout.write(f"{action}: {told}" + (f" Done in {deed.done_s:.3f} s." if deed.done_s is not None else ""))
        return deed

    def _halt(self, reason: str) -> None:
        try:
            risk_control.halt_file().write(reason, ACTOR)
        except OSError:
            logger.exception("halt file not written")

    def _at_the_gateway(self, action: str, client_id: int) -> dead_man.Deed:
        mats = settings.MATS
        rule = account_rule(mats)
        line = IBConnection(
            client_id,
            host=mats.ib_host,
            port=mats.ib_port,
            role="watch",
            name="Dead-man switch",
            connect_timeout_s=mats.ib_connect_timeout_s,
            expected_account=rule.account,
            paper_only=rule.paper_only,
            first_order_id=int(time.time()) % 1_000_000_000,  # above every one that an earlier process used
        )
        try:
            return asyncio.run(dead_man.act(line, action))
        except (MatsError, ConfigError, OSError) as error:
            logger.exception("dead-man switch failed action=%s", action)
            return dead_man.Deed(error=str(error))

    def _record(self, action: str, silent_s: float, deed: dead_man.Deed, text: str, *, drill: bool) -> None:
        try:
            DeadManRun.objects.create(
                at=timezone.now(),
                drill=drill,
                action=action,
                silent_s=round(silent_s, 1),
                done_s=deed.done_s,
                left_orders=deed.left_orders,
                left_positions=deed.left_positions,
                text=text[:400],
            )
            if not drill:
                alerts.raise_alert(ALERT_KEY, Severity.CRITICAL, f"The engine died; dead-man switch: {action}", text)
        except DatabaseError:
            logger.exception("dead-man switch not recorded")
        finally:
            connection.close()

    def _over(self) -> None:
        try:
            alerts.clear_alert(ALERT_KEY)
        except DatabaseError as error:
            logger.warning("alert not cleared reason=%s", error)
        self.stdout.write("The engine lives again.")
