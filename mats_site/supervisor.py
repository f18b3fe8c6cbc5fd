"""Keep a few child processes running: start in order, restart with backoff, stop in order.

Owns: process life. Leaves: what the children do, and every word the operator reads (``Reporter``).
Rule: a child that ends by itself is restarted after a growing pause; five ends within ten minutes, or an exit code
that means «starting again cannot help» (2 usage, 3 another engine), keep it down and say so.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

FINAL_EXIT_CODES = frozenset({2, 3})
MAX_ENDS = 5
WINDOW_S = 600.0
MAX_PAUSE_S = 15.0
SAME_REQUEST_S = 1.0
PR_SET_PDEATHSIG = 1

Reporter = Callable[[str], None]


def _die_with_parent() -> None:
    """Ask Linux to end this child when the supervisor is killed, so that no orphan keeps a port or the lease."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass(slots=True)
class Child:
    """One supervised process; ``stop_timeout_s`` is what it may take after SIGTERM before it is killed."""

    name: str
    command: Sequence[str]
    log_file: Path
    stop_timeout_s: float = 15.0
    process: subprocess.Popen[bytes] | None = None
    ends: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_ENDS))
    restart_at: float | None = None
    given_up: bool = False

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self.process is not None and self.process.poll() is None

    def last_lines(self, count: int = 6) -> str:
        """Return the end of its log, for the operator."""
        try:
            lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(f"    {line}" for line in lines[-count:])


class Supervisor:
    """Runs children in the given order and ends them in the reverse one. Main thread only: it takes the signals."""

    def __init__(
        self, children: Sequence[Child], report: Reporter, *, environment: Mapping[str, str] | None = None
    ) -> None:
        self.children = list(children)
        self._report = report
        self._environment = dict(environment if environment is not None else os.environ)
        self._stopping = False
        self._asked_at: float | None = None

    def start(self, child: Child) -> None:
        """Start one child; its output goes to its log file.

        Raises: OSError when the program or the log file cannot be opened.
        """
        child.restart_at = None
        child.log_file.parent.mkdir(parents=True, exist_ok=True)
        output: IO[bytes]
        with child.log_file.open("ab") as output:
            child.process = subprocess.Popen(
                child.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**self._environment, "MATS_PROCESS": child.name},
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which then stops in order
                preexec_fn=_die_with_parent,
            )

    def request_stop(self, *_: object) -> None:
        """Stop after the current turn; a second request ends everything at once."""
        now = time.monotonic()
        if self._asked_at is not None and now - self._asked_at < SAME_REQUEST_S:
            return  # a terminal, make and timeout may each pass on the same signal
        if self._asked_at is not None:
            for child in self.children:
                if child.running and child.process is not None:
                    child.process.kill()
            raise SystemExit(130)
        self._asked_at = now
        self._stopping = True

    def watch_once(self, now: float) -> None:
        """Look at each child once: notice ends, restart what is due. ``now`` is a monotonic time in seconds."""
        for child in self.children:
            if child.given_up or child.running:
                continue
            if child.restart_at is None:
                self._note_end(child, now)
            elif now >= child.restart_at:
                self.start(child)
                self._report(f"{child.name}: started again (pid {child.process.pid if child.process else '?'}).")

    def _note_end(self, child: Child, now: float) -> None:
        code = child.process.returncode if child.process is not None else None
        child.ends.append(now)
        recent = [end for end in child.ends if now - end < WINDOW_S]
        if code in FINAL_EXIT_CODES or len(recent) >= MAX_ENDS:
            child.given_up = True
            why = (
                f"{len(recent)} ends in {WINDOW_S / 60:.0f} minutes" if len(recent) >= MAX_ENDS else f"exit code {code}"
            )
            self._report(
                f"{child.name}: stays down ({why}). Its last lines, from {child.log_file}:\n{child.last_lines()}"
            )
            return
        pause = min(MAX_PAUSE_S, 0.5 * 2 ** (len(recent) - 1))
        child.restart_at = now + pause
        self._report(f"{child.name}: ended ({describe_exit(code)}); starting again in {pause:.1f} s.")

    def run(self, tick_s: float = 0.2) -> None:
        """Watch until a stop is requested or every child stays down, then stop all."""
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            signal.signal(getattr(signal, name), self.request_stop)
        try:
            while not self._stopping and not all(child.given_up for child in self.children):
                self.watch_once(time.monotonic())
                time.sleep(tick_s)
        finally:
            self.stop()

    def stop(self) -> None:
        """End the children in reverse order: SIGTERM, then SIGKILL after each one's own time."""
        self._stopping = True
        for child in reversed(self.children):
            process = child.process
            if process is None or process.poll() is not None:
                continue
            process.terminate()
            try:
                process.wait(child.stop_timeout_s)
            except subprocess.TimeoutExpired:
                self._report(f"{child.name}: did not stop in {child.stop_timeout_s:.0f} s, killed.")
                process.kill()
                process.wait()
            self._report(f"{child.name}: stopped.")


def describe_exit(code: int | None) -> str:
    """Return how a process ended, in words."""
    if code is None:
        return "never started"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
