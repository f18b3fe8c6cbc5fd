"""The ways to ask for trouble: a script, the control port, its command."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import socket
import stat
from io import StringIO
from pathlib import Path
from typing import Any

import ib_async
import pytest
from django.core.management import CommandError, call_command

from strategies.exceptions import MatsError
from tests.e2e.engine.harness import until
from tests.e2e.gateway.test_gateway_command import gateway_process
from trading.gateway.faults import FaultError
from trading.gateway.faults_control import FILE_NAME, MAX_LINE, ControlPort, ask_gateway
from trading.gateway.protocol import frame
from trading.gateway.testing import RunningGateway, free_port, running_gateway

pytestmark = pytest.mark.e2e


def refused(port: int) -> bool:
    """Whether the gateway lets nobody in."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        try:
            line.sendall(b"API\0" + frame(b"v157..178"))
            return not line.recv(100)
        except ConnectionError:
            return True


def test_a_gateway_takes_a_script_and_a_control_port_and_the_command_reaches_it(tmp_path: Path, settings: Any) -> None:
    settings.MATS = dataclasses.replace(settings.MATS, mats_home=tmp_path)
    script = tmp_path / "night.faults"
    script.write_text("# one bad night\nsquat 7\nwhen execDetails 3 reboot 4\n", encoding="utf-8")
    port, out = free_port(), StringIO()
    with gateway_process(tmp_path, port, "--faults", str(script), "--control-port", "0") as process:
        token_file = tmp_path / "gateway" / FILE_NAME
        assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
        call_command("gateway_fault", "status", stdout=out)
        assert "in force: when execDetails 3 reboot 4" in out.getvalue()
        assert not refused(port)
        call_command("gateway_fault", "refuse", "1h", stdout=out)
        assert refused(port)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert not token_file.exists()
    with pytest.raises(CommandError, match="--control-port") as caught:
        call_command("gateway_fault", "status")
    assert caught.value.returncode == 2


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--faults", "night.faults"), "Line 2: 'sabotage' is no verb"),
        (("--faults", "missing.faults"), "missing.faults"),
        (("--restart-at", "noon"), "no time of day"),
    ],
)
def test_faults_that_cannot_be_read_stop_the_start_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("night.faults").write_text("drop\nsabotage\n", encoding="utf-8")
    with pytest.raises(CommandError, match=word) as caught:
        call_command("run_gateway", "--port", str(free_port()), "--state-file", str(tmp_path / "s.json"), *options)
    assert caught.value.returncode == 2
    assert "\n" not in str(caught.value)


def test_a_line_that_is_no_fault_is_told_before_anything_is_asked() -> None:
    with pytest.raises(CommandError, match="'sabotage' is no verb"):
        call_command("gateway_fault", "sabotage")


def test_only_who_knows_the_token_is_heard_and_only_in_short_lines(tmp_path: Path) -> None:
    heard: list[str] = []

    def ask(line: str) -> str:
        heard.append(line)
        if line == "boom":
            raise ZeroDivisionError
        if line == "bad":
            raise FaultError("That is no fault.")
        return "done"

    with running_gateway() as gateway:
        control = ControlPort(ask, tmp_path / FILE_NAME, 0)
        asyncio.run_coroutine_threadsafe(control.start(), gateway.loop).result(10)
        known = json.loads((tmp_path / FILE_NAME).read_text())
        assert control.port == known["port"]
        assert ask_gateway(tmp_path / FILE_NAME, "status") == "done"
        for line in (b"drop\n", b"wrong drop\n", b"GET / HTTP/1.1\r\n", b"x" * (MAX_LINE + 10) + b"\n"):
            with socket.create_connection(("127.0.0.1", control.port), timeout=10) as bad:
                bad.sendall(line)
                assert not _answer(bad)
        with pytest.raises(FaultError, match="That is no fault"):
            ask_gateway(tmp_path / FILE_NAME, "bad")
        with pytest.raises(FaultError, match="ZeroDivisionError"):
            ask_gateway(tmp_path / FILE_NAME, "boom")
        (tmp_path / FILE_NAME).write_text(json.dumps({**known, "token": "of yesterday"}))
        with pytest.raises(MatsError) as caught:
            ask_gateway(tmp_path / FILE_NAME, "status")
        assert caught.value.code == "bad_token"
        assert heard == ["status", "bad", "boom"]
        asyncio.run_coroutine_threadsafe(control.stop(), gateway.loop).result(10)


def _answer(line: socket.socket) -> bytes:
    try:
        return line.recv(100)
    except ConnectionError:
        return b""


def test_faults_wait_for_their_moment() -> None:
    with running_gateway() as gateway:
        gateway.fault("after 100ms refuse 1h")
        assert not gateway.server.faults.done
        until(lambda: gateway.server.faults.done == ["refuse 1h"])
        assert refused(gateway.port)
        gateway.fault("clear")
        assert not refused(gateway.port)


def test_the_daily_restart_closes_every_socket_and_comes_back_with_the_same_ids() -> None:
    async def met(gateway: RunningGateway) -> None:
        port = gateway.port
        ib = ib_async.IB()
        await ib.connectAsync("127.0.0.1", port, 5, timeout=10)
        first = ib.client.getReqId()
        lost = asyncio.Event()
        ib.disconnectedEvent += lost.set
        await asyncio.to_thread(gateway.fault, "restart 300ms")
        async with asyncio.timeout(20):
            await lost.wait()
        while refused(port):
            await asyncio.sleep(0.05)
        await ib.connectAsync("127.0.0.1", port, 5, timeout=10)
        assert ib.client.getReqId() == first
        ib.disconnect()

    with running_gateway() as gateway:
        asyncio.run(met(gateway))


def test_a_time_of_day_is_new_yorks_and_comes_once_or_daily() -> None:
    with running_gateway() as gateway:
        gateway.fault("daily 00:00 say 1100")
        gateway.fault("at 00:00 say 1102")
        desk = gateway.server.faults

        def _midnight() -> list[str]:
            for waiting in desk._waiting:
                assert waiting.due_at is not None
                assert (waiting.due_at.hour, str(waiting.due_at.tzinfo)) == (0, "America/New_York")
                waiting.due_at = gateway.server.hub.context.now()
            desk.tick(0.0)
            return [each.planned.fault.text for each in desk._waiting]

        assert gateway.call(_midnight) == ["say 1100"]
        assert desk.done == ["say 1100", "say 1102"]
