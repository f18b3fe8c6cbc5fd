"""The engines of one proof: a home, a database, and a zygote that forks one engine after the other."""

from __future__ import annotations

import json
import os
import select
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.e2e.kill.builds import DAY_ZONE, noon_zone
from tests.support.database import query

ROOT = Path(__file__).resolve().parents[3]
STARTED_IN_S = 300.0  # two seconds of imports, a minute on a machine that has much else to do
MIGRATE = "from django.core.management import call_command; call_command('migrate', verbosity=0); "
ADD_STRATEGY = (
    "from strategies.services import save_strategy; from tests.support.limits import lift_limits; lift_limits(); "
    "save_strategy({'symbol': 'CHURN', 'filename': 'churn_strategy.py', 'active': True, 'target_weight': '0.5', "
    "'max_restarts_per_hour': 100}, user=None)"
)


class Engines:
    """The zygote and the engine it forked last."""

    def __init__(self, home: Path, gateway_port: int, *builds: str, url: str = "") -> None:
        self.home = home
        self.url = url  # of a server; without one the database is a file of this home
        self.database = home / "mats.sqlite3"
        self.builds = [f"tests.e2e.kill.builds:{name}" for name in ("quick", *builds)]
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "mats_site.settings",
            "MATS_HOME": str(home),
            "DATABASE_URL": url or f"sqlite:///{self.database}",
            "MATS_ARCTIC_URI": f"lmdb://{home / 'arctic'}?map_size=2GB",
            "MATS_IB_PORT": str(gateway_port),
            "MATS_STRATEGY_PATH": str(Path(__file__).parent / "strategy"),
            "MATS_STOP_TIMEOUT_S": "5",
            "MATS_EQUITY_INTERVAL_S": "2",
            "MATS_LOG_LEVEL": "WARNING",
            "MATS_IB_MESSAGES_PER_S": "1000",  # the rate of the proof is the machine's, not IB's
            DAY_ZONE: noon_zone(datetime.now(UTC)),
        }
        self.zygote: subprocess.Popen[str] | None = None

    @property
    def day_zone(self) -> str:
        """Zone whose midnight ends the day, for the gateway as well."""
        return self.environment[DAY_ZONE]

    def manage(self, *args: str) -> str:
        """Run a management command to its end; it must succeed."""
        command = [sys.executable, "manage.py", *args]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, text=True, capture_output=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def open(self) -> None:
        """Make the database and start the zygote."""
        self.manage("shell", "-c", MIGRATE + ADD_STRATEGY)
        self.zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.support.engine_zygote"],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self._answer(STARTED_IN_S)["ready"]

    def close(self) -> None:
        """End the zygote, and the engine that a failed test left behind."""
        if self.zygote is None or self.zygote.stdin is None:
            return
        self.zygote.stdin.close()
        try:
            self.zygote.wait(20)
        except subprocess.TimeoutExpired:
            self.zygote.kill()
            self.zygote.wait()

    def fork(self, *, crash_at: str = "", args: tuple[str, ...] = ()) -> int:
        """Start an engine; return its process id."""
        assert self.zygote is not None
        assert self.zygote.stdin is not None
        spec = {"env": {"MATS_CRASH_AT": crash_at}, "args": list(args), "prepare": self.builds}
        self.zygote.stdin.write(json.dumps(spec) + "\n")
        pid: int = self._answer(60)["pid"]
        return pid

    def wait_end(self, pid: int, timeout_s: float) -> int | None:
        """Return the wait status, or None when it still runs."""
        answer = self._line(timeout_s)
        if answer is None:
            return None
        assert answer["pid"] == pid
        status: int = answer["status"]
        return status

    def query(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Read the database beside the engine."""
        if self.url:
            return query(self.url, sql)
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=20)
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()

    def is_running(self, pid: int) -> bool:
        """Tell whether that engine holds the lease and has reconciled."""
        rows = self.query("select holder, status from trading_enginelease")
        told = [(holder, json.loads(status) if isinstance(status, str) else status) for holder, status in rows]
        return any(f":{pid}:" in holder and status.get("state") == "running" for holder, status in told)

    def log(self) -> str:
        """Return the end of what the engines printed."""
        path = self.home / "engine.out"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        answer = self._line(timeout_s)
        assert answer is not None, "the zygote did not answer"
        return answer

    def _line(self, timeout_s: float) -> dict[str, Any] | None:
        assert self.zygote is not None
        assert self.zygote.stdout is not None
        ready, _, _ = select.select([self.zygote.stdout], [], [], timeout_s)
        if not ready:
            return None
        answer: dict[str, Any] = json.loads(self.zygote.stdout.readline())
        return answer
