"""A mail server on 127.0.0.1 for tests: plain SMTP with a login, as far as a client that sends mail needs it.

Shape: ``with MailServer() as mail``; ``mail.messages`` are what it took, oldest first. ``mail.refuse`` is where it says
no from now on (``greeting``, ``login``, ``sender``, ``content``), ``silence`` (it takes the connection and says
nothing until ``hang_up``), or empty. ``mail.refused`` counts how often it did.
"""

from __future__ import annotations

import asyncio
import base64
import email
import email.policy
import threading
from collections.abc import Awaitable, Callable
from email.message import EmailMessage
from types import TracebackType
from typing import Self

USER, PASSWORD = "mats", "correct-horse"  # nobody's
_NO = {"greeting": "554 no service here", "login": "535 no", "sender": "550 not from you", "content": "452 disk full"}

Handler = Callable[[str], Awaitable[str]]


class MailServer:
    """Runs in a thread of its own between ``with`` and its end."""

    def __init__(self) -> None:
        self.port = 0
        self.messages: list[EmailMessage] = []
        self.refuse = ""
        self.refused = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mail-server", daemon=True)

    def url(self, to: str = "desk@example.org") -> str:
        """Return its address in Apprise's words."""
        return f"mailto://{USER}:{PASSWORD}@127.0.0.1:{self.port}?from=mats@example.org&to={to}"

    @property
    def subjects(self) -> list[str]:
        """Return the subject of every message."""
        return [str(message["Subject"]) for message in self.messages]

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._ended, self.patience_over = asyncio.Event(), asyncio.Event()
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._ended.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = _Conversation(self, reader, writer)
        try:
            await conversation.run()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client is gone, which is its right
        finally:
            writer.close()

    def hang_up(self) -> None:
        """Close the connections on which it says nothing."""
        self._loop.call_soon_threadsafe(self.patience_over.set)

    def says_no(self, where: str) -> bool:
        """Tell whether it refuses here, and count it."""
        self.refused += self.refuse == where
        return self.refuse == where


class _Conversation:
    """One connection."""

    def __init__(self, server: MailServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server, self._reader, self._writer = server, reader, writer

    async def run(self) -> None:
        """Greet and answer until the client leaves."""
        server = self._server
        if server.says_no("silence"):
            await server.patience_over.wait()
            return
        if server.says_no("greeting"):
            self._say(_NO["greeting"])
            return
        self._say("220 mail.example.org")
        while line := await self._line():
            verb = line[:4].upper()
            if verb == "QUIT":
                self._say("221 bye")
                return
            self._say(await self._answer(verb, line))
            await self._writer.drain()

    async def _answer(self, verb: str, line: str) -> str:
        if verb == "EHLO":
            return "250-mail.example.org\r\n250 AUTH LOGIN PLAIN"
        if verb == "AUTH":
            return await self._login(line)
        if verb == "MAIL" and self._server.says_no("sender"):
            return _NO["sender"]
        if verb == "DATA":
            return await self._content()
        return "250 ok" if verb in ("HELO", "MAIL", "RCPT", "RSET", "NOOP") else "502 unknown"

    async def _login(self, line: str) -> str:
        _, kind, *first = line.split()
        if kind.upper() == "PLAIN":
            given = base64.b64decode(first[0]).decode().split("\0")[1:]
        else:
            given = [base64.b64decode(text).decode() for text in first]
            while len(given) < 2:
                self._say("334 " + base64.b64encode(b"go on").decode())
                given.append(base64.b64decode(await self._line()).decode())
        no = self._server.says_no("login") or given != [USER, PASSWORD]
        return _NO["login"] if no else "235 welcome"

    async def _content(self) -> str:
        self._say("354 go on")
        body = await self._reader.readuntil(b"\r\n.\r\n")
        if self._server.says_no("content"):
            return _NO["content"]
        text = body[:-5].replace(b"\r\n..", b"\r\n.")
        message = email.message_from_bytes(text, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self._server.messages.append(message)
        return "250 taken"

    async def _line(self) -> str:
        return (await self._reader.readline()).decode().strip()

    def _say(self, text: str) -> None:
        self._writer.write(f"{text}\r\n".encode())
