"""A web service on 127.0.0.1 for tests, which remembers what is posted to it and answers what it is told.

Shape: ``with Webhook() as hook``; ``hook.got`` are the bodies read as JSON (``raw`` with path and type as they came) of
the posts that it took. ``hook.status`` is its answer from now on; ``hook.gate`` cleared makes every post wait.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

WAIT_S = 30.0


class Webhook:
    """Runs in a thread of its own between ``with`` and its end."""

    def __init__(self) -> None:
        self.status = 200
        self.raw: list[tuple[str, str, bytes]] = []
        self.refused = 0
        self.gate = threading.Event()
        self.gate.set()
        hook = self

        class _Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.gate.wait(WAIT_S)
                status = hook.status
                if status < 300:
                    hook.raw.append((self.path, self.headers["Content-Type"], body))
                else:
                    hook.refused += 1
                self.send_response(status)
                self.end_headers()
                self.wfile.write(b'{"ok": true, "result": {"message_id": 1}}' if status != 204 else b"")

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def got(self) -> list[dict[str, Any]]:
        """Return the bodies of the posts."""
        return [json.loads(body) for _, _, body in list(self.raw)]

    @property
    def titles(self) -> list[str]:
        """Return the title of every message."""
        return [str(message["title"]) for message in self.got]
