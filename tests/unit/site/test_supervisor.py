"""The supervisor against real child processes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mats_site.supervisor import MAX_ENDS, Child, Supervisor

SLEEPER = "import signal, time; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., tuple[Supervisor, Child, list[str]]]]:
    made: list[Supervisor] = []

    def build(program: str, stop_timeout_s: float = 15.0) -> tuple[Supervisor, Child, list[str]]:
        said: list[str] = []
        child = Child("child", [sys.executable, "-c", program], tmp_path / "child.log", stop_timeout_s)
        supervisor = Supervisor([child], said.append)
        made.append(supervisor)
        supervisor.start(child)
        return supervisor, child, said

    yield build
    for supervisor in made:
        supervisor.stop()


def wait_for(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        os.sched_yield()


def has_printed(child: Child) -> bool:
    return child.log_file.exists() and "up" in child.log_file.read_text()


def test_killed_child_is_started_again_after_its_pause(
    supervise: Callable[..., tuple[Supervisor, Child, list[str]]],
) -> None:
    supervisor, child, said = supervise(SLEEPER)
    wait_for(lambda: has_printed(child))
    assert child.process is not None
    first = child.process.pid
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: not child.running)
    supervisor.watch_once(now=100.0)
    assert "killed by SIGKILL" in said[-1]
    supervisor.watch_once(now=100.1)
    assert child.process.pid == first
    supervisor.watch_once(now=101.0)
    assert child.process.pid != first
    wait_for(lambda: child.log_file.read_text().count("up") == 2)


def test_exit_that_cannot_be_helped_by_a_restart_keeps_the_child_down(
    supervise: Callable[..., tuple[Supervisor, Child, list[str]]],
) -> None:
    supervisor, child, said = supervise("import sys; print('port 7497 is taken'); sys.exit(2)")
    wait_for(lambda: not child.running)
    supervisor.watch_once(now=1.0)
    assert child.given_up
    assert "port 7497 is taken" in said[-1]


def test_child_that_keeps_ending_is_given_up_within_the_window(
    supervise: Callable[..., tuple[Supervisor, Child, list[str]]],
) -> None:
    supervisor, child, said = supervise("raise SystemExit(1)")
    now = 0.0
    for _ in range(MAX_ENDS):
        wait_for(lambda: not child.running)
        supervisor.watch_once(now)
        now += 20.0
        supervisor.watch_once(now)
    assert child.given_up
    assert f"{MAX_ENDS} ends" in said[-1]


def test_child_that_ignores_sigterm_is_killed_after_its_time(
    supervise: Callable[..., tuple[Supervisor, Child, list[str]]],
) -> None:
    supervisor, child, said = supervise(STUBBORN, stop_timeout_s=0.2)
    wait_for(lambda: has_printed(child))
    supervisor.stop()
    assert not child.running
    assert any("killed" in line for line in said)


def test_child_dies_with_a_killed_supervisor(tmp_path: Path) -> None:
    log = tmp_path / "grandchild.log"
    program = (
        "import sys, time; from pathlib import Path; from mats_site.supervisor import Child, Supervisor\n"
        f"c = Child('c', [sys.executable, '-c', {SLEEPER!r}], Path({str(log)!r}))\n"
        "s = Supervisor([c], print); s.start(c)\n"
        "print(c.process.pid, flush=True); time.sleep(60)"
    )
    import subprocess

    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        grandchild = int(parent.stdout.readline())
        wait_for(lambda: log.exists() and "up" in log.read_text())
        parent.kill()
        parent.wait()
        wait_for(lambda: not _alive(grandchild))


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_one_signal_passed_on_twice_is_one_request_and_a_later_one_ends_at_once(
    supervise: Callable[..., tuple[Supervisor, Child, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor, child, _ = supervise(STUBBORN)
    wait_for(lambda: has_printed(child))
    supervisor.request_stop()
    supervisor.request_stop()
    assert child.running
    present = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: present + 5)
    with pytest.raises(SystemExit):
        supervisor.request_stop()
    monkeypatch.undo()
    wait_for(lambda: not child.running)
