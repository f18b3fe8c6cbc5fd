"""``manage.py up``: the whole of MATS under one supervisor."""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from mats_site.supervisor import Child, Supervisor

READY_TIMEOUT_S = 60.0


class Command(BaseCommand):
    """Start gateway, engine and web; watch them; stop them in order."""

    help = (
        "Start the paper gateway, the engine, the worker and the web server, print the page's address and keep them "
        "running. Ctrl-C stops all in order. Everything continues where it was when started again. "
        "With MATS_EMBEDDED_GATEWAY=false (or --no-gateway) the engine connects to the TWS or IB Gateway at "
        "MATS_IB_HOST:MATS_IB_PORT instead, and no demo strategies are created."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--no-gateway", action="store_true", help="Use an existing TWS or IB Gateway.")
        parser.add_argument("--no-setup", action="store_true", help="Skip migrations, first admin and demo data.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Prepare, start, watch."""
        _quieten_console()
        mats = settings.MATS
        with_gateway = mats.embedded_gateway and not options["no_gateway"]
        self._check_ports(with_gateway=with_gateway)
        if not options["no_setup"]:
            self._prepare(with_gateway=with_gateway)
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        supervisor = Supervisor(self._children(with_gateway=with_gateway), self._say, environment=environment)
        for child in supervisor.children:
            supervisor.start(child)
        self._announce(with_gateway=with_gateway)
        supervisor.run()
        if any(child.given_up for child in supervisor.children):
            raise CommandError("A part of MATS stayed down; its last lines are above.", returncode=1)

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

    def _prepare(self, *, with_gateway: bool) -> None:
        try:
            call_command("migrate", verbosity=0, interactive=False)
            call_command("setup_demo", demo=with_gateway)
        except DatabaseError as error:
            raise CommandError(
                f"The database cannot be used ({error}). Look at DATABASE_URL and at {settings.MATS.mats_home}.",
                returncode=2,
            ) from error

    def _check_ports(self, *, with_gateway: bool) -> None:
        mats = settings.MATS
        wanted = [("web page", mats.web_host, mats.web_port, "MATS_WEB_PORT")]
        if with_gateway:
            wanted.append(("paper gateway", mats.ib_host, mats.ib_port, "MATS_IB_PORT"))
        for what, host, port, setting in wanted:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((host, port))
                except OSError as error:
                    raise CommandError(
                        f"The {what} cannot use {host}:{port} ({error.strerror}). "
                        f"Stop what listens there, or choose another port: {setting}=… make run",
                        returncode=2,
                    ) from error

    def _children(self, *, with_gateway: bool) -> list[Child]:
        mats = settings.MATS
        manage = [sys.executable, str(settings.BASE_DIR / "manage.py")]
        logs = mats.mats_home / "log"
        children = []
        if with_gateway:
            gateway = [*manage, "run_gateway", "--host", mats.ib_host, "--port", str(mats.ib_port)]
            gateway += ["--market", mats.gateway_market, "--speed", str(mats.gateway_speed)]
            children.append(Child("gateway", gateway, logs / "gateway.out"))
        daphne = ["-b", mats.web_host, "-p", str(mats.web_port), "mats_site.asgi:application"]
        children.append(Child("web", [sys.executable, "-m", "daphne", *daphne], logs / "web.out"))
        children.append(Child("worker", [*manage, "run_jobs"], logs / "worker.out", stop_timeout_s=30))
        # Last in, first out: the engine stops while the gateway still answers its cancels and drains.
        children.append(Child("engine", [*manage, "run_engine"], logs / "engine.out", mats.stop_timeout_s + 30))
        return children

    def _announce(self, *, with_gateway: bool) -> None:
        mats = settings.MATS
        host = f"[{mats.web_host}]" if ":" in mats.web_host else mats.web_host
        url = f"http://{host}:{mats.web_port}/"
        ready = _wait_until_ready(f"{url}healthz")
        broker = "paper gateway (shipped)" if with_gateway else f"IB at {mats.ib_host}:{mats.ib_port}"
        self._say(f"\n  MATS is {'running' if ready else 'starting (the page does not answer yet)'}: {url}")
        self._say(f"  Broker: {broker}. Logs: {mats.mats_home / 'log'}. Ctrl-C stops everything.\n")


def _quieten_console() -> None:
    """Keep the terminal for the operator: what works goes to the log file only."""
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            handler.setLevel(logging.WARNING)


def _wait_until_ready(url: str) -> bool:
    """Wait until the web process answers at all; degraded is an answer."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own http address
                json.load(answer)
                return True
        except urllib.error.HTTPError:
            return True
        except (OSError, ValueError):
            time.sleep(0.2)
    return False
