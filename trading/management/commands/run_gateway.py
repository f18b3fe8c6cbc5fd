"""``manage.py run_gateway``: the paper gateway as a process."""

from __future__ import annotations

import asyncio
import signal
import socket
from argparse import ArgumentParser
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from strategies.exceptions import ConfigError
from trading.gateway import persistence
from trading.gateway.exchange import Exchange, VenueOptions, build_venue
from trading.gateway.faults import FaultError, Planned, parse, parse_script
from trading.gateway.faults_control import FILE_NAME, ControlPort
from trading.gateway.server import GatewayServer

EPHEMERAL_PORTS = 32_768
MAX_FUNDS = Decimal("1e12")
PAPER_ACCOUNT_PREFIXES = ("D",)  # IB numbers paper accounts DU… and DF…; the engine takes anything else for real money


class Command(BaseCommand):
    """Serve Interactive Brokers' wire on this machine, with paper money and replayed or made-up prices."""

    help = "Run the paper gateway: IB's wire on 127.0.0.1, unmodified IB clients connect to it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options; their defaults are those of a fresh installation."""
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
        parser.add_argument(
            "--port", type=int, default=settings.MATS.ib_port, help="port below 32768 (default MATS_IB_PORT)"
        )
        parser.add_argument("--market", default="replay:sample", help="replay:sample, replay:PATH or synthetic")
        parser.add_argument("--speed", type=float, default=60.0, help="market seconds per second (default 60)")
        parser.add_argument(
            "--clock",
            choices=("wall", "replay", "step"),
            default="wall",
            help="stamp with the present, or with the bars' time; step: stand until «gateway_fault step» says go on",
        )
        parser.add_argument(
            "--whole-fills", action="store_true", help="fill orders whole, as if there were always enough volume"
        )
        parser.add_argument(
            "--hours", choices=("always", "exchange"), default="always", help="trade always, or in exchange hours"
        )
        parser.add_argument("--seed", type=int, default=7, help="seed of the synthetic market and of partial fills")
        parser.add_argument("--account", default="DU1000001", help="account number; paper accounts begin with D")
        parser.add_argument("--cash", default="1000000", help="cash of a new account, in USD")
        parser.add_argument(
            "--master-client-id", type=int, default=0, help="client that hears of everyone's orders; -1 for none"
        )
        parser.add_argument("--max-clients", type=int, default=32, help="API clients at once (TWS: 32)")
        parser.add_argument(
            "--max-messages", type=int, default=50, help="messages per second and client; 0 for no limit"
        )
        parser.add_argument(
            "--pacing", choices=("queue", "reject"), default="queue", help="above the limit: hold back, or error 100"
        )
        parser.add_argument(
            "--max-active-orders", type=int, default=20, help="working orders of one contract and side (IB: 20)"
        )
        parser.add_argument("--size-limit", type=int, default=None, help="order preset: larger orders are error 383")
        parser.add_argument(
            "--tif-preset", action="store_true", help="order preset: say 10349 when a time in force is left out"
        )
        parser.add_argument("--strict-executions", action="store_true", help="clients get only their own executions")
        parser.add_argument("--state-file", type=Path, default=None, help="where account and orders are kept")
        parser.add_argument("--reset", action="store_true", help="begin with a fresh account, keeping nothing")
        parser.add_argument(
            "--subscriptions",
            default="all",
            help="market data: all, or security types and exchanges such as STK,FUT,LSE (a ~ behind: in part)",
        )
        parser.add_argument("--instruments", type=Path, default=None, help="file with instruments of your own")

        parser.add_argument("--faults", type=Path, default=None, help="script of faults, a line each (docs/faults.md)")
        parser.add_argument(
            "--control-port", type=int, default=None, help="take faults on this port of 127.0.0.1; off by default"
        )
        parser.add_argument(
            "--restart-at", default=None, metavar="HH:MM", help="restart daily at this New York time, as TWS does"
        )
        parser.add_argument(
            "--restart-for", type=float, default=20.0, help="seconds that the daily restart takes (default 20)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or Ctrl-C; exit 2 when the port or the state cannot be had."""
        _check(options)
        planned = _faults(options)
        state_file: Path = options["state_file"] or settings.MATS.mats_home / "gateway" / "state.json"
        # The port comes first: whoever holds it may also hold the state file, which --reset would pull away.
        listener = _listen(options["host"], options["port"])
        try:
            state_file.parent.mkdir(parents=True, exist_ok=True)
            if options["reset"]:
                persistence.remove(state_file)
            venue = _venue(options, state_file)
        except (ConfigError, OSError) as error:
            listener.close()
            raise CommandError(str(error), returncode=2) from error
        asyncio.run(self._serve(venue, listener, options, planned))

    async def _serve(
        self, venue: Exchange, listener: socket.socket, options: dict[str, Any], planned: list[Planned]
    ) -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        server = _server(venue, options)
        await server.start(listener)
        control = await _control(server, options)
        server.faults.arm(planned)
        self.stdout.write(f"Paper gateway listens on {server.host}:{server.port}, market {options['market']}.")
        self.stdout.flush()
        await stopping.wait()
        if control is not None:
            await control.stop()
        await server.stop()
        venue.close()
        self.stdout.write("Paper gateway stopped; its state is saved.")


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket bound to the address.

    Raises: CommandError (exit 2) when it is taken or no address of this machine.
    """
    try:
        return socket.create_server((host, port), backlog=128)
    except OSError as error:
        raise CommandError(
            f"Cannot listen on {host}:{port} ({error.strerror}). Is another gateway or TWS running? "
            "Choose another port with --port.",
            returncode=2,
        ) from error


def _check(options: dict[str, Any]) -> None:
    if not 1 <= options["port"] < EPHEMERAL_PORTS:
        raise CommandError(
            f"--port {options['port']} cannot be used: give 1 to {EPHEMERAL_PORTS - 1}; "
            "above, clients' own ports collide.",
            returncode=2,
        )
    if not options["account"].startswith(PAPER_ACCOUNT_PREFIXES):
        raise CommandError(f"--account {options['account']} is not a paper account: those begin with D.", returncode=2)
    if options["max_clients"] < 1 or options["max_messages"] < 0:
        raise CommandError("--max-clients must be at least 1, --max-messages at least 0.", returncode=2)
    if options["max_active_orders"] < 1 or (options["size_limit"] is not None and options["size_limit"] < 1):
        raise CommandError("--max-active-orders and --size-limit must be at least 1.", returncode=2)


def _venue(options: dict[str, Any], state_file: Path) -> Exchange:
    try:
        cash = Decimal(options["cash"])
    except ArithmeticError as error:
        raise ConfigError(f"--cash {options['cash']} is not an amount.") from error
    if not (cash.is_finite() and 0 < cash <= MAX_FUNDS):
        raise ConfigError(f"--cash {options['cash']} must be above 0 and at most {MAX_FUNDS:f}.")
    return build_venue(
        VenueOptions(
            market=options["market"],
            speed=options["speed"],
            clock=options["clock"],
            hours=options["hours"],
            seed=options["seed"],
            partial_fills=not options["whole_fills"],
            account=options["account"],
            cash=cash,
            state_file=state_file,
            instruments_file=options["instruments"],
            subscriptions=options["subscriptions"],
            max_active_orders=options["max_active_orders"],
            size_limit=None if options["size_limit"] is None else Decimal(options["size_limit"]),
            tif_preset=options["tif_preset"],
        )
    )


def _server(venue: Exchange, options: dict[str, Any]) -> GatewayServer:
    master = options["master_client_id"]
    return GatewayServer(
        venue,
        options["host"],
        options["port"],
        clock=lambda: venue.market_now(datetime.now(UTC)),
        master_client_id=None if master < 0 else master,
        max_clients=options["max_clients"],
        max_messages_per_s=options["max_messages"],
        pacing=options["pacing"],
        strict_executions=options["strict_executions"],
        fault_seed=options["seed"],
    )


def _faults(options: dict[str, Any]) -> list[Planned]:
    """Read the script and the daily restart.

    Raises: CommandError (exit 2) that names file and line.
    """
    script: Path | None = options["faults"]
    try:
        planned = parse_script(script.read_text(encoding="utf-8")) if script is not None else []
    except (FaultError, OSError, UnicodeDecodeError) as error:
        raise CommandError(f"--faults {script}: {error}", returncode=2) from error
    if options["restart_at"] is not None:
        try:
            planned.append(parse(f"daily {options['restart_at']} restart {options['restart_for']:g}"))
        except FaultError as error:
            raise CommandError(f"--restart-at {options['restart_at']}: {error.message}", returncode=2) from error
    return planned


async def _control(server: GatewayServer, options: dict[str, Any]) -> ControlPort | None:
    """Open the control port where one is wanted.

    Raises: CommandError (exit 2) when it is taken or its file cannot be written.
    """
    if options["control_port"] is None:
        return None
    control = ControlPort(server.faults.ask, settings.MATS.mats_home / "gateway" / FILE_NAME, options["control_port"])
    try:
        await control.start()
    except (OSError, OverflowError) as error:
        await server.stop()
        raise CommandError(f"--control-port {options['control_port']} cannot be used: {error}", returncode=2) from error
    return control
