"""The control port: faults asked for from outside the gateway's process, on this machine, by who may read a file.

Owns: the socket on 127.0.0.1, the token file, one line in and its answer out; the client that reads the file.
Leaves: what a line means (``faults``) and does (``faults_desk``).
Rule: off unless asked for. The token is new at every start and stands in a file that its owner alone may read; a line
without it ends the connection.

    client → ``TOKEN cut 37 execDetails\\n``      gateway → ``{"ok": true, "answer": "…"}\\n``
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from strategies.exceptions import MatsError

from .faults import FaultError

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
MAX_LINE = 4096
ANSWER_S = 10.0
FILE_NAME = "control.json"


class ControlPort:
    """Listens for lines and passes them to ``ask``; all on the gateway's loop."""

    def __init__(self, ask: Callable[[str], str], token_file: Path, port: int) -> None:
        self._ask = ask
        self._file = token_file
        self._port = port
        self._token = secrets.token_urlsafe(32)
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._port

    async def start(self) -> None:
        """Listen, and leave port and token in the file.

        Raises: OSError when the port is taken or the file cannot be written.
        """
        self._server = await asyncio.start_server(self._serve, HOST, self._port, limit=MAX_LINE)
        self._port = self._server.sockets[0].getsockname()[1]
        _write_private(self._file, json.dumps({"port": self._port, "token": self._token}))
        logger.warning("control port open on %s:%s: whoever reads %s can cause faults", HOST, self._port, self._file)

    async def stop(self) -> None:
        """Stop listening; the file goes."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._file.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                answer = self._answer(line)
                if answer is None:
                    logger.warning("control connection without the token closed")
                    return
                writer.write((json.dumps(answer) + "\n").encode())
                await writer.drain()
        except (ValueError, ConnectionError):  # a line too long, or a client that went
            logger.warning("control connection closed")
        finally:
            writer.close()

    def _answer(self, line: bytes) -> dict[str, object] | None:
        token, _, text = line.decode("utf-8", "replace").strip().partition(" ")
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            return None
        try:
            return {"ok": True, "answer": self._ask(text)}
        except FaultError as error:
            return {"ok": False, "answer": error.message}
        except Exception as error:  # border of one line: the gateway goes on
            logger.exception("fault failed line=%r", text)
            return {"ok": False, "answer": f"The gateway failed at it ({type(error).__name__}); its log says why."}


def ask_gateway(token_file: Path, line: str) -> str:
    """Send one line to the gateway whose token file this is; return its answer.

    Raises: MatsError (no_control_port) when nobody listens; FaultError when the gateway refuses the line.
    """
    try:
        found = json.loads(token_file.read_text(encoding="utf-8"))
        with socket.create_connection((HOST, int(found["port"])), timeout=ANSWER_S) as line_out:
            line_out.sendall(f"{found['token']} {' '.join(line.splitlines())}\n".encode())
            with line_out.makefile("r", encoding="utf-8") as answers:
                answer = json.loads(answers.readline() or "null")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MatsError(
            f"No control port answers for {token_file} ({error}). Start the gateway with --control-port.",
            code="no_control_port",
        ) from error
    if answer is None:
        raise MatsError("The gateway closed the control connection: the token is of another start.", code="bad_token")
    if not answer["ok"]:
        raise FaultError(answer["answer"])
    return str(answer["answer"])


def _write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone may read, whatever stood there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write(text)
