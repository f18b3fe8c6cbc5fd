"""The live socket of a page: every event behind its cursor, in order, and a heartbeat each second.

Owns: one page's cursor, its login, and how far it may run behind.
Leaves: reading and serialising events (``live.py``), what they mean (the page).

Protocol: the page connects to ``ws/live?last=<id>[&strategy=SYM]`` and gets ``events`` frames (batched), ``heartbeat``
frames, or ``reset`` when what it missed is no longer kept. It answers every ``events`` frame with
``{"type": "ack", "last": id}``; without acks it gets no more frames, so that a stalled page costs no memory here.
Close codes: 4401 not logged in, 4400 not our protocol, 4408 no ack for half a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from autobahn.exception import Disconnected
from channels.auth import get_user
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.utils import timezone
from django.utils.module_loading import import_string

from strategies.models import STRATEGY_SYMBOL_PATTERN
from trading import live
from trading.engine.events import iso

logger = logging.getLogger(__name__)

CLOSE_JUNK = 4400
CLOSE_LOGIN = 4401
CLOSE_SLOW = 4408
MAX_MESSAGE = 1_000


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    """One page's socket. Lifetime: one connection; the page resumes with its last id on the next."""

    heartbeat_s = 1.0
    recheck_login_s = 60.0
    ack_timeout_s = 30.0
    window = 8  # frames in flight

    async def connect(self) -> None:
        """Let a logged-in page in at its cursor; others are closed with 4401 so that they can tell why."""
        await self.accept()
        self._tasks: list[asyncio.Task[None]] = []
        self._token: object | None = None
        if not await self._is_logged_in():
            await self.close(code=CLOSE_LOGIN)
            return
        query = parse_qs(self.scope["query_string"].decode("latin-1"))
        last, strategy = query.get("last", ["0"])[0], query.get("strategy", [""])[0]
        if not re.fullmatch(r"[0-9]{1,18}", last) or (strategy and not re.match(STRATEGY_SYMBOL_PATTERN, strategy)):
            await self.close(code=CLOSE_JUNK)
            return
        self._cursor, self._strategy = int(last), strategy
        self._unacked: deque[tuple[int, float]] = deque()
        self._wake = asyncio.Event()
        self._token = live.tail.subscribe(asyncio.get_running_loop(), self._wake.set)
        self._tasks = [asyncio.create_task(self._guard(self._pump)), asyncio.create_task(self._guard(self._beat))]

    async def disconnect(self, code: int) -> None:
        """Forget the page."""
        if self._token is not None:
            live.tail.unsubscribe(self._token)
        for task in self._tasks:
            task.cancel()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Take an ack; anything else is not our protocol."""
        last = _acked_id(text_data)
        if last is None or self._token is None:
            await self.close(code=CLOSE_JUNK)
            return
        while self._unacked and self._unacked[0][0] <= last:
            self._unacked.popleft()
        self._wake.set()

    async def _guard(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Disconnected:  # the page went away while a frame was under way
            logger.debug("live socket closed user=%s", self.scope.get("user"))
        except Exception:  # task border: close, the page reconnects and resumes
            logger.exception("live socket failed user=%s", self.scope.get("user"))
            with contextlib.suppress(Exception):
                await self.close(code=1011)

    async def _pump(self) -> None:
        # The first look goes to the table: only it knows whether the page's cursor still exists.
        behind = True
        while True:
            while len(self._unacked) < self.window:
                try:
                    frame = await self._next_frame(from_table=behind)
                except LookupError:
                    await self.send(text_data='{"type":"reset"}')
                    return
                if frame is None:
                    behind = False
                    break
                behind = behind and frame.last < self._ring_floor()
                await self._send_frame(frame)
            await self._wake.wait()
            self._wake.clear()

    async def _next_frame(self, *, from_table: bool) -> live.Frame | None:
        ring = live.tail.ring
        if not from_table and ring is not None:
            with contextlib.suppress(LookupError):
                return ring.frame_after(self._cursor, self._strategy)
        return await database_sync_to_async(live.backfill_frame)(self._cursor, self._strategy)  # type: ignore[no-any-return]

    def _ring_floor(self) -> int:
        ring = live.tail.ring
        return self._cursor + 1 if ring is None else ring.floor

    async def _send_frame(self, frame: live.Frame) -> None:
        self._cursor = frame.last
        if frame.text is not None:
            self._unacked.append((frame.last, time.monotonic()))
            await self.send(text_data=frame.text)

    async def _beat(self) -> None:
        checked_at = time.monotonic()
        while True:
            now = time.monotonic()
            if self._unacked and now - self._unacked[0][1] > self.ack_timeout_s:
                await self.close(code=CLOSE_SLOW)
                return
            if now - checked_at >= self.recheck_login_s:
                checked_at = now
                if not await self._is_logged_in():
                    await self.close(code=CLOSE_LOGIN)
                    return
            engine = live.tail.engine_text()
            if engine is not None and len(self._unacked) < self.window:
                await self.send(
                    text_data=f'{{"type":"heartbeat","engine":{engine},"last":{self._cursor},'
                    f'"server_time":"{iso(timezone.now())}"}}'
                )
            await asyncio.sleep(self.heartbeat_s)

    async def _is_logged_in(self) -> bool:
        """Ask the session store anew: the scope keeps what was true when the socket opened."""
        key = self.scope["session"].session_key
        if not key:
            return False
        store = import_string(f"{settings.SESSION_ENGINE}.SessionStore")
        user = await get_user({"session": store(key)})
        return bool(user.is_authenticated and user.is_active)


class UnknownPathConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    """Refuses sockets on paths that do not exist, instead of a server error."""

    async def connect(self) -> None:
        """Close before accepting: the client sees 403."""
        await self.close()


def _acked_id(text: str | None) -> int | None:
    if text is None or len(text) > MAX_MESSAGE:
        return None
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or message.get("type") != "ack":
        return None
    last = message.get("last")
    return last if isinstance(last, int) and not isinstance(last, bool) else None
