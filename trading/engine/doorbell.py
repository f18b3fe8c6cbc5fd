"""A datagram that says «look now», so that two processes joined by tables need not wait for their polls.

Owns: unix datagram sockets under ``MATS_HOME/run/bell/<topic>``: one per listener, named by its process.
Rule: a bell carries nothing and may be lost, doubled or late; whoever listens polls as well.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from uuid import uuid4

from django.conf import settings

logger = logging.getLogger(__name__)

EVENTS = "events"  # the engine rings, web processes listen
COMMANDS = "commands"  # whoever enqueues rings, the engine listens


def _folder(topic: str) -> Path:
    return Path(settings.MATS.mats_home) / "run" / "bell" / topic


@contextlib.contextmanager
def _short_name(folder: Path) -> Iterator[str]:
    # A unix socket's address holds about 107 bytes, less than a deep MATS_HOME may need: go through the descriptor.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def ring(topic: str = EVENTS) -> int:
    """Wake every listener of a topic; return how many were told. Never blocks, never raises."""
    folder = _folder(topic)
    told = 0
    try:
        names = [entry.name for entry in folder.iterdir()]
        if not names:
            return 0
        with _short_name(folder) as prefix, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            for name in names:
                told += _ring_one(sender, f"{prefix}/{name}")
    except FileNotFoundError:
        return 0
    except OSError:
        logger.warning("doorbell topic=%s cannot ring; listeners fall back to polling", topic, exc_info=True)
    return told


def _ring_one(sender: socket.socket, address: str) -> bool:
    try:
        sender.sendto(b"!", address)
    except BlockingIOError:
        return True  # its buffer is full of earlier rings: it will look anyway
    except ConnectionRefusedError:
        with contextlib.suppress(OSError):
            Path(address).unlink()  # left behind by a killed process
        return False
    except FileNotFoundError:
        return False
    return True


class Listener:
    """One process's ear on a topic. Use as a context manager, or ``close()`` it; waits from one thread only."""

    def __init__(self, topic: str = EVENTS) -> None:
        folder = _folder(topic)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"{os.getpid()}-{uuid4().hex[:12]}"
        self._path = folder / name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        with _short_name(folder) as prefix:
            self._socket.bind(f"{prefix}/{name}")

    def fileno(self) -> int:
        """Return the descriptor, for selectors and ``loop.add_reader``; call ``drain`` when it is readable."""
        return self._socket.fileno()

    def wait(self, timeout_s: float) -> bool:
        """Block until the bell rings or the time is over; tell whether it rang."""
        ear = select.poll()  # select() knows no descriptor above 1023
        ear.register(self._socket, select.POLLIN)
        rang = bool(ear.poll(max(0.0, timeout_s) * 1000))
        if rang:
            self.drain()
        return rang

    def drain(self) -> None:
        """Forget all rings so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(16)

    def close(self) -> None:
        """Stop listening and remove the socket file."""
        self._socket.close()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
