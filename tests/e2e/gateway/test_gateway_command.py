"""``manage.py run_gateway``: refuses in one line what cannot work; as a process stops cleanly and continues."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ib_async
import pytest
from django.core.management import CommandError, call_command

from trading.gateway.testing import free_port

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def gateway_process(home: Path, port: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A running gateway process with a home of its own; ended when the test has not."""
    line = [sys.executable, str(ROOT / "manage.py"), "run_gateway", "--port", str(port), *options]
    environment = {**os.environ, "MATS_HOME": str(home), "DJANGO_SETTINGS_MODULE": "mats_site.settings"}
    process = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert "listens" in process.stdout.readline()
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=20)


async def bought(port: int) -> list[float]:
    """Buy 5 AAPL and return what is held then."""
    ib = ib_async.IB()
    await ib.connectAsync("127.0.0.1", port, 1, timeout=10)
    (contract,) = await ib.qualifyContractsAsync(ib_async.Stock("AAPL", "SMART", "USD"))
    assert isinstance(contract, ib_async.Contract)
    before = sum(row.position for row in ib.positions())
    trade = ib.placeOrder(contract, ib_async.MarketOrder("BUY", 5))
    ends = time.monotonic() + 15
    while not trade.isDone() or sum(row.position for row in ib.positions()) == before:
        assert time.monotonic() < ends
        await asyncio.sleep(0.02)
    held = [row.position for row in ib.positions()]
    ib.disconnect()
    return held


def test_account_survives_sigterm_and_sigkill(tmp_path: Path) -> None:
    port = free_port()
    with gateway_process(tmp_path, port) as process:
        assert asyncio.run(bought(port)) == [5]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    with gateway_process(tmp_path, port) as process:
        assert asyncio.run(bought(port)) == [10]
        process.kill()
        process.wait(20)
    with gateway_process(tmp_path, port) as process:
        assert asyncio.run(bought(port)) == [15]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_port_in_use_is_one_clear_line_and_leaves_the_state_alone(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    state.write_text("{}")
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"127.0.0.1:{port}.*--port") as caught:
            call_command("run_gateway", "--port", str(port), "--state-file", str(state), "--reset")
    assert caught.value.returncode == 2
    assert "\n" not in str(caught.value)
    assert state.exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--port", "40000"), "--port"),
        (("--market", "replay:/nowhere.csv"), "nowhere"),
        (("--cash", "plenty"), "--cash"),
        (("--cash", "-1"), "--cash"),
        (("--account", "U1"), "--account"),
        (("--speed", "0"), "speed"),
        (("--max-clients", "0"), "--max-clients"),
    ],
)
def test_unusable_options_exit_2_with_one_line(tmp_path: Path, options: tuple[str, ...], word: str) -> None:
    arguments = ["--port", str(free_port()), "--state-file", str(tmp_path / "state.json"), *options]
    with pytest.raises(CommandError, match=word) as caught:
        call_command("run_gateway", *arguments)
    assert caught.value.returncode == 2
    assert "\n" not in str(caught.value)
