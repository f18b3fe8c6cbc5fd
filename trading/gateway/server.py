"""The gateway's sockets: accept, read, pace, write, and drop whoever misbehaves.

Owns: TCP on one asyncio loop, the periodic tick, output buffers and their limits.
Leaves: bytes to ``protocol``, requests to ``wire_hub``, everything about markets and orders to the venue.
Rule: nothing a client sends or fails to read may harm another. Junk, a hanging handshake, a reader that stopped: the
socket is closed, the client's orders work on.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Literal, cast

from .faults_desk import FaultDesk
from .model import VenueEvent
from .protocol import Frame, Handshake, ServerCodec, handshake_reply
from .protocol_errors import ProtocolError
from .protocol_fields import stamp
from .session import Session
from .stepping import Stepper
from .venue import Venue
from .wire_context import Context
from .wire_hub import Hub
from .wire_pacing import MAX_BREAKS, Pacer, Pacing

logger = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S = 10.0
SPARE_SOCKETS = 16  # sockets that have not started a session yet, beyond the clients themselves
BUFFER_SOFT_BYTES = 4 << 20  # from here on a reader gets no ticks
BUFFER_HARD_BYTES = 256 << 20  # from here on it is dropped
STALL_S = 15.0  # a congested reader that takes nothing for so long is dropped
INBOX_HIGH = 2_000
INBOX_LOW = 500
PIECE = 500  # messages of a long answer that are written before others have their turn


class GatewayServer:
    """A paper gateway on one address; all methods but the constructor run on its event loop.

    Units: ``tick_s`` seconds between looks at the market. ``count_together`` holds the limit of messages against all
    clients together: whether IB does is not known. Raises: OSError from ``start`` when the port is taken.
    """

    def __init__(
        self,
        venue: Venue,
        host: str = "127.0.0.1",
        port: int = 7497,
        *,
        clock: Callable[[], datetime],
        master_client_id: int | None = 0,
        max_clients: int = 32,
        max_messages_per_s: int = 50,
        pacing: Literal["queue", "reject"] = "queue",
        tick_s: float = 0.05,
        strict_executions: bool = False,
        stall_s: float = STALL_S,
        buffer_bytes: int = BUFFER_HARD_BYTES,
        fault_seed: int = 0,
        count_together: bool = False,
    ) -> None:
        self.venue = venue
        self.pacing = Pacing(pacing)
        self.max_messages_per_s = max_messages_per_s
        self.shared_pacer = Pacer(max_messages_per_s) if count_together else None
        self.stall_s = stall_s
        self.buffer_bytes = buffer_bytes
        self.hub = Hub(
            Context(
                venue=venue,
                clock=clock,
                master_client_id=master_client_id,
                max_clients=max_clients,
                strict_executions=strict_executions,
            )
        )
        self.peers: set[Peer] = set()
        self.stepper = Stepper(self)
        self.faults = FaultDesk(self, fault_seed)
        self._host, self._port = host, port
        self._tick_s = tick_s
        self._server: asyncio.Server | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._failing = False

    @property
    def host(self) -> str:
        """The address that clients connect to."""
        return self._host

    @property
    def port(self) -> int:
        """The port that clients connect to."""
        return self._port

    @property
    def max_sockets(self) -> int:
        """How many sockets may be open, started or not."""
        return self.hub.context.max_clients + SPARE_SOCKETS

    async def start(self, listener: socket.socket | None = None) -> None:
        """Listen, on ``listener`` if the caller has bound one already, and let the market run."""
        loop = asyncio.get_running_loop()
        self.hub.context.uptime_s = time.monotonic()
        if listener is not None:
            self._server = await loop.create_server(lambda: Peer(self), sock=listener)
        else:
            self._server = await loop.create_server(lambda: Peer(self), self._host, self._port, backlog=128)
        if not self._port:
            self._port = self._server.sockets[0].getsockname()[1]
        self._ticker = asyncio.create_task(self._run(), name="gateway-tick")
        logger.info("gateway listens host=%s port=%s", self._host, self._port)

    async def stop(self) -> None:
        """Close every socket and persist the venue; calling it again is harmless."""
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
            self._ticker = None
        self.stepper.stop()
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self.flush()
        for peer in list(self.peers):
            peer.close()
        self.venue.save()
        logger.info("gateway stopped port=%s", self._port)

    def publish(self, events: Iterable[VenueEvent]) -> None:
        """Spread events of the venue that no request and no tick caused."""
        self.hub.publish(events)
        self.flush()

    def flush(self) -> None:
        """Write every outbox, each in one piece; then come the faults that waited for what was written."""
        for peer in list(self.peers):
            peer.flush()
        self.faults.run_triggered()

    def peers_of(self, client_id: int | None) -> list[Peer]:
        """Return the sockets of a client; of everyone, started or not, for None."""
        return [peer for peer in self.peers if client_id in (None, peer.client_id)]

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._tick_s)
            try:
                self.hub.tick(time.monotonic())
                self._failing = False
            except Exception:
                if not self._failing:  # once per failure, not twenty times a second
                    logger.exception("the market stands still: a tick failed")
                self._failing = True
            now = time.monotonic()
            self.faults.tick(now)
            self.flush()
            for peer in list(self.peers):
                peer.check_stall(now)


class Peer(asyncio.Protocol):
    """One accepted socket."""

    def __init__(self, server: GatewayServer) -> None:
        self._server = server
        self._codec = ServerCodec()
        self._pacer = server.shared_pacer or Pacer(server.max_messages_per_s)
        self._inbox: deque[list[str]] = deque()
        self._session = Session(version=0)
        self._transport: asyncio.Transport | None = None
        self._wakeup: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._written = 0
        self._drained = 0
        self._drained_at = 0.0
        self._silent = server.faults.silences(time.monotonic())

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept, or drop at once when sockets run out."""
        self._transport = cast(asyncio.Transport, transport)
        if self._server.faults.refuses(time.monotonic()):
            self._transport.abort()
            return
        if len(self._server.peers) >= self._server.max_sockets:
            logger.warning("socket dropped: %s sockets are open", len(self._server.peers))
            self._transport.abort()
            return
        self._server.peers.add(self)
        self._transport.set_write_buffer_limits(high=BUFFER_SOFT_BYTES)
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._deadline = asyncio.get_running_loop().call_later(HANDSHAKE_TIMEOUT_S, self._check_started)

    def data_received(self, data: bytes) -> None:
        """Read what came and answer what is complete."""
        if self._silent:
            return
        try:
            events = self._codec.receive(data)
        except ProtocolError as error:
            logger.warning("socket dropped client_id=%s: %s", self._session.client_id, error)
            self._refuse(str(error))
            return
        for event in events:
            if isinstance(event, Handshake):
                self._greet(event)
            else:
                self._take(event)
        self._work()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        for handle in (self._wakeup, self._deadline):
            if handle is not None:
                handle.cancel()
        self._transport = None
        self._inbox.clear()
        self._server.peers.discard(self)
        self._server.faults.wire.forget(id(self))
        self._server.hub.leave(self._session)
        if self._session.started:
            logger.info("client left client_id=%s", self._session.client_id)

    def pause_writing(self) -> None:
        """The reader is behind."""
        self._session.congested = True
        self._drained, self._drained_at = self._progress(), time.monotonic()

    def resume_writing(self) -> None:
        """The reader has caught up."""
        self._session.congested = False
        self._feed()

    def _feed(self) -> None:
        """Write the next piece of a long answer, as fast as it is read; at its end go on with what waits."""
        session, transport = self._session, self._transport
        if session.backlog is None or session.congested or transport is None or transport.is_closing():
            return
        piece = list(itertools.islice(session.backlog, PIECE))
        session.outbox.extend(piece)
        self.flush()
        if len(piece) == PIECE:
            asyncio.get_running_loop().call_soon(self._feed)
        else:
            session.backlog = None
            self._work()

    # what the server asks

    def flush(self) -> None:
        """Write the outbox; drop the reader when too much waits, close when the session is to end."""
        session, transport = self._session, self._transport
        if transport is None or transport.is_closing():
            session.outbox.clear()
            return
        if self._silent:
            session.outbox.clear()
            return
        frames = session.outbox if self._server.faults.wire.is_idle else self._disturbed()
        if frames:
            data = b"".join(frames)
            session.outbox.clear()
            self.write_raw(data)
            if transport.get_write_buffer_size() > self._server.buffer_bytes:
                self.drop("it does not read")
                return
        if session.closing:
            self.close()

    def _disturbed(self) -> list[bytes]:
        """What the faults in force leave of the outbox."""
        session = self._session
        sent = self._server.faults.wire.outgoing(id(self), session.client_id, session.outbox, time.monotonic())
        session.outbox.clear()
        session.closing |= sent.close
        return sent.frames

    # what faults ask

    @property
    def client_id(self) -> int:
        """The client behind the socket; NO_ID before it started."""
        return self._session.client_id

    def write_raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        if self._transport is not None and not self._transport.is_closing():
            self._written += len(data)
            self._transport.write(data)

    def silence(self) -> None:
        """Take bytes from now on and say nothing, as a line that is cut without a word."""
        self._silent = True
        self._inbox.clear()
        if self._deadline is not None:
            self._deadline.cancel()

    def drop(self, reason: str) -> None:
        """Close now; what was not sent is lost."""
        logger.warning("client dropped client_id=%s: %s", self._session.client_id, reason)
        self._session.outbox.clear()
        self._inbox.clear()
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close after what is buffered has been sent."""
        if self._transport is not None:
            self._transport.close()

    def check_stall(self, now: float) -> None:
        """Drop a reader that has taken nothing for too long."""
        if not self._session.congested or self._transport is None:
            return
        progress = self._progress()
        if progress != self._drained:
            self._drained, self._drained_at = progress, now
        elif now - self._drained_at > self._server.stall_s:
            self.drop("it stopped reading")

    # inside

    def _progress(self) -> int:
        waiting = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return self._written - waiting

    def _refuse(self, reason: str) -> None:
        if self._session.started:
            self._session.error(-1, 507, f"Bad Message Length: {reason}")
        self._inbox.clear()
        self._session.closing = True
        self.flush()

    def _check_started(self) -> None:
        if not self._session.started:
            self.drop("it did not start a session in time")

    def _greet(self, handshake: Handshake) -> None:
        self._session.version = handshake.version
        self._session.send(handshake_reply(handshake.version, stamp(self._server.hub.context.now())))

    def _take(self, frame: Frame) -> None:
        if self._server.pacing is Pacing.QUEUE:
            self._inbox.append(frame.fields)
            if len(self._inbox) > INBOX_HIGH and self._transport is not None:
                self._transport.pause_reading()
            return
        received = self._pacer.exceeded(time.monotonic())
        if not received:
            self._inbox.append(frame.fields)
            return
        breaks, limit = self._pacer.breaks, self._server.max_messages_per_s
        self._session.error(
            -1, 100, f"Max rate of messages per second has been exceeded:max={limit} rec={received} ({breaks})"
        )
        if self._pacer.broken:
            logger.warning(
                "client dropped client_id=%s: rate limit broken %s times", self._session.client_id, MAX_BREAKS
            )
            self._session.closing = True

    def _work(self) -> None:
        """Handle what waits, as far as the pace allows, then write for everyone who heard of it."""
        self._wakeup = None
        session = self._session
        while self._inbox and not session.closing and session.backlog is None:
            if self._server.pacing is Pacing.QUEUE:
                now = time.monotonic()
                wait = self._pacer.wait_s(now)
                if wait:
                    self._wakeup = asyncio.get_running_loop().call_later(wait, self._work)
                    break
                self._pacer.passed(now)
            self._hear(self._inbox.popleft())
        self._server.faults.run_triggered()
        if self._transport is not None and len(self._inbox) < INBOX_LOW and not self._transport.is_closing():
            self._transport.resume_reading()
        self._server.flush()

    def _hear(self, fields: list[str]) -> None:
        """Hand a request to its handler, unless a fault keeps it back or away."""
        wire = self._server.faults.wire
        late_s = 0.0 if wire.is_idle else wire.incoming(self._session.client_id, fields[0], time.monotonic())
        if late_s is None:
            return
        if late_s:
            asyncio.get_running_loop().call_later(late_s, self._hear_late, fields)
            return
        self._handle(fields)

    def _handle(self, fields: list[str]) -> None:
        self._server.hub.handle(self._session, fields)
        if self._session.backlog is not None:
            asyncio.get_running_loop().call_soon(self._feed)

    def _hear_late(self, fields: list[str]) -> None:
        if self._transport is not None and not self._session.closing:
            self._handle(fields)
            self._server.flush()
