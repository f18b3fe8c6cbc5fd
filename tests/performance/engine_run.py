"""A whole MATS for a benchmark: gateway, engine and web as separate processes on a throw-away home."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import psutil

from tests.performance.figures import ROOT, anon_mb

IDLE_STRATEGY = '''"""Stays connected and leaves the trading to the gateway's injected fills."""

import asyncio

from strategies.base import BaseStrategy


class IdleStrategy(BaseStrategy):
    """Does nothing while it runs."""

    async def initialize_strategy(self) -> None:
        """Nothing to prepare."""

    async def run_strategy(self) -> None:
        """Wait until stopped."""
        while self.is_running:
            await asyncio.sleep(0.2)
'''


def free_port() -> int:
    """Return a loopback port below the ephemeral range that nothing uses."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@dataclass(slots=True)
class Mats:
    """The running processes and how to reach them."""

    home: Path
    environment: dict[str, str]
    web_port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def manage(self, *args: str) -> str:
        """Run a management command and return what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *args], cwd=ROOT, env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{args}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self, name: str, *command: str) -> None:
        """Start one process; its output goes to a file in the home."""
        with (self.home / f"{name}.out").open("ab") as output:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=self.environment, stdout=output, stderr=subprocess.STDOUT
            )

    def stop(self) -> None:
        """End every process, in reverse order."""
        for process in reversed(list(self.processes.values())):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def memory_mb(self, name: str) -> float:
        """Resident memory of one process."""
        return float(psutil.Process(self.processes[name].pid).memory_info().rss) / 1e6

    def anon_mb(self, name: str) -> float:
        """Memory that is one process's own."""
        return anon_mb(self.processes[name].pid)

    def cpu_s(self, name: str) -> float:
        """CPU seconds that one process has used."""
        times = psutil.Process(self.processes[name].pid).cpu_times()
        return float(times.user + times.system)

    def thread_cpu_s(self, name: str) -> dict[int, float]:
        """CPU seconds of one process's threads, by thread id; Python does not name them to the system."""
        threads = psutil.Process(self.processes[name].pid).threads()
        return {thread.id: thread.user_time + thread.system_time for thread in threads}

    @property
    def database(self) -> str:
        """Path of the SQLite ledger."""
        return str(self.home / "mats.sqlite3")


def prepared_mats(home: Path, gateway_port: int, *, strategies: int = 1) -> Mats:
    """Make the database and the idle strategies of a home; start nothing."""
    (home / "strategies").mkdir(parents=True)
    (home / "strategies" / "bench_idle.py").write_text(IDLE_STRATEGY)
    web_port = free_port()
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "mats_site.settings",
        "MATS_HOME": str(home),
        "MATS_IB_PORT": str(gateway_port),
        "MATS_WEB_PORT": str(web_port),
        "MATS_STRATEGY_PATH": str(home / "strategies"),
        "MATS_LOG_LEVEL": "WARNING",
        "MATS_IB_MESSAGES_PER_S": "1000",  # each connection keeps IB's limit; this gateway has none over all
    }
    mats = Mats(home, environment, web_port)
    mats.manage("migrate", "-v0")
    mats.manage("shell", "-c", _ADD.format(count=strategies))
    return mats


@contextmanager
def running_mats(home: Path, gateway_port: int, *, strategies: int = 1) -> Iterator[Mats]:
    """Start engine and web against a gateway, with idle strategies, and wait until orders may flow."""
    mats = prepared_mats(home, gateway_port, strategies=strategies)
    web_port = mats.web_port
    try:
        mats.start("engine", "manage.py", "run_engine")
        mats.start("web", "-m", "daphne", "-b", "127.0.0.1", "-p", str(web_port), "mats_site.asgi:application")
        _wait(lambda: _strategies_run(mats, strategies) and _web_answers(mats), 90, mats)
        yield mats
    finally:
        mats.stop()


@contextmanager
def running_engine(mats: Mats, *, strategies: int = 1, probe: Path | None = None) -> Iterator[float]:
    """Start an engine on a prepared home; give the seconds from its start until orders may flow.

    With ``probe`` it writes into that file what its memory is made of.
    """
    command = ["manage.py", "run_engine"] if probe is None else ["-m", "tests.performance.engine_probe", str(probe)]
    output = mats.home / "engine.out"
    output.unlink(missing_ok=True)
    mats.environment["MATS_LOG_LEVEL"] = "INFO"
    start = time.perf_counter()
    try:
        mats.start("engine", *command)
        _wait(lambda: "engine state=running" in output.read_text(errors="replace"), 180, mats, 0.01)
        spent = time.perf_counter() - start
        _wait(lambda: _strategies_run(mats, strategies), 90, mats)
        yield spent
    finally:
        mats.stop()


_ADD = """
from django.contrib.auth import get_user_model
from strategies.services import save_strategy
from tests.support.limits import lift_limits
lift_limits()
get_user_model().objects.create_superuser("bench", password="bench-password")
for number in range({count}):
    save_strategy(dict(symbol=f"BENCH{{number or ''}}", filename="bench_idle.py", active=True), user=None)
"""


def _strategies_run(mats: Mats, count: int) -> bool:
    import sqlite3

    connection = sqlite3.connect(f"file:{mats.database}?mode=ro", uri=True, timeout=20)
    try:
        running = connection.execute("select count(*) from trading_strategyrun where state = 'running'").fetchone()
    finally:
        connection.close()
    return bool(running[0] >= count)


def _web_answers(mats: Mats) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{mats.web_port}/healthz", timeout=2) as answer:
            return bool(json.load(answer))
    except (OSError, ValueError):
        return False


def _wait(condition: Any, timeout_s: float, mats: Mats, every_s: float = 0.1) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError((mats.home / "engine.out").read_text()[-3000:])
        time.sleep(every_s)


async def logged_in_cookie(mats: Mats) -> str:
    """Log in over HTTP and return the session cookie header."""

    def login() -> str:
        base = f"http://127.0.0.1:{mats.web_port}/login/"
        cookies = CookieJar()
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
        page = opener.open(base, timeout=10).read().decode()
        match = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        if match is None:
            raise RuntimeError("the login page has no CSRF token")
        body = f"csrfmiddlewaretoken={match[1]}&username=bench&password=bench-password".encode()
        opener.open(urllib.request.Request(base, body, {"Referer": base}), timeout=10).read()
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in cookies)

    return await asyncio.get_running_loop().run_in_executor(None, login)
