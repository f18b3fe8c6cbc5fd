"""The bell wakes who listens, and nobody waits for it."""

from __future__ import annotations

import dataclasses
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from trading.engine import doorbell
from trading.engine.doorbell import Listener, ring


@pytest.fixture(autouse=True)
def home(settings: Any, tmp_path: Path) -> Path:
    """A bell folder of the test's own."""
    settings.MATS = dataclasses.replace(settings.MATS, mats_home=tmp_path)
    return tmp_path


def test_every_listener_of_the_topic_is_woken_and_no_other() -> None:
    with Listener() as first, Listener() as second, Listener(doorbell.COMMANDS) as other:
        assert ring() == 2
        assert first.wait(1.0)
        assert second.wait(1.0)
        assert not other.wait(0.0)


def test_a_ring_before_the_wait_is_not_lost_and_many_count_once() -> None:
    with Listener() as bell:
        for _ in range(5):
            ring()
        assert bell.wait(0.0)
        assert not bell.wait(0.0)


def test_ringing_without_listeners_is_nothing() -> None:
    assert ring() == 0


def test_a_dead_listener_s_socket_is_swept(home: Path) -> None:
    folder = home / "run" / "bell" / "events"
    folder.mkdir(parents=True)
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    dead.bind(str(folder / "dead"))
    dead.close()
    assert ring() == 0
    assert list(folder.iterdir()) == []


def test_a_listener_that_never_reads_does_not_block_the_ringer() -> None:
    with Listener() as deaf:
        started = time.monotonic()
        for _ in range(2000):
            ring()
        assert time.monotonic() - started < 5.0
        assert deaf.wait(0.0)


def test_closing_removes_the_socket(home: Path) -> None:
    Listener().close()
    assert list((home / "run" / "bell" / "events").iterdir()) == []


def test_a_deep_home_is_no_obstacle(settings: Any, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    settings.MATS = dataclasses.replace(settings.MATS, mats_home=deep)
    with Listener() as bell:
        ring()
        assert bell.wait(1.0)
