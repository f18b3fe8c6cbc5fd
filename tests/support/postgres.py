"""A PostgreSQL server for one run: made in a temporary folder from Debian's package, ended with what it was made for.

Owns: finding the binaries, its folder, its port, its end. Downloads nothing: without a package it says so.
Usage: ``python -m tests.support.postgres COMMAND …`` runs a command with ``DATABASE_URL`` set and returns its code.
"""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MISSING = "no PostgreSQL server here (Debian: apt-get install postgresql)"
_PLACES = Path("/usr/lib/postgresql")
_PATIENCE_S = 60.0
# Durable on disk is not what a test asks for, except of a server that is killed: that one keeps its WAL in the OS.
_SETTINGS = {"fsync": "off", "listen_addresses": "127.0.0.1", "max_connections": "200", "log_min_messages": "warning"}


def folder_of_binaries() -> Path | None:
    """Return where initdb and postgres are, of several versions the newest; None when there is no server."""
    found = sorted(_PLACES.glob("*/bin/initdb"), key=lambda path: float(path.parent.parent.name))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def _free_port() -> int:
    for _ in range(200):
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise OSError("no free port between 20000 and 32000")


def _server_user() -> str | None:
    """Name who runs the server: PostgreSQL refuses root."""
    if os.geteuid():
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


class Server:
    """One server with its own data; ``start`` and ``stop`` may alternate, the data stays until ``remove``."""

    def __init__(self) -> None:
        binaries = folder_of_binaries()
        if binaries is None:
            raise FileNotFoundError(MISSING)
        self._binaries = binaries
        self._user = _server_user()
        self._folder = Path(tempfile.mkdtemp(prefix="mats-postgres-", dir="/tmp"))
        if self._user:
            shutil.chown(self._folder, self._user)
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        made = [str(binaries / "initdb"), "-D", str(self._data), "-U", "mats", "-A", "trust", "-E", "UTF8", "-N"]
        subprocess.run([*made, "--locale=C.UTF-8"], check=True, stdout=subprocess.DEVNULL, user=self._user, cwd="/")

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def log(self) -> Path:
        """What the server said."""
        return self._folder / "log"

    def url(self, database: str = "postgres") -> str:
        """Return what ``DATABASE_URL`` should say."""
        return f"postgres://mats@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        options = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        own = ["-D", str(self._data), "-p", str(self.port), "-k", str(self._folder)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._binaries / "postgres"), *own, *options],
                stdout=log, stderr=log, user=self._user, cwd="/", start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _PATIENCE_S
        ready = [str(self._binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT cuts all connections in good order, SIGQUIT is a crash that replays its log."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_PATIENCE_S)
            self._process = None

    def create(self, database: str) -> str:
        """Make an empty database; return its address."""
        command = [str(self._binaries / "createdb"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "mats", database]
        subprocess.run(command, check=True)
        return self.url(database)

    def remove(self) -> None:
        """End the server and delete its data."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def server() -> Iterator[Server]:
    """Run a server for the time of a ``with``."""
    made = Server()
    try:
        made.start()
        yield made
    finally:
        made.remove()


def main(command: list[str]) -> int:
    """Run a command against a server of its own; both end together."""
    if not command:
        print("usage: python -m tests.support.postgres COMMAND …", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with server() as made:
            address = made.create("mats")
            return subprocess.run(command, check=False, env={**os.environ, "DATABASE_URL": address}).returncode
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
