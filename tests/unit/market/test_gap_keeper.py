"""The thread that mends gaps goes on after an error, and ends when it is told to."""

from __future__ import annotations

import threading

import pytest

from strategies.exceptions import TransientError
from trading.market.gap_keeper import GapKeeper


@pytest.mark.parametrize("error", [TransientError("IB is away."), ValueError("a bug")])
def test_it_goes_on_after_an_error(error: Exception) -> None:
    calls: list[int] = []
    enough = threading.Event()

    def run(now_ns: int) -> None:
        calls.append(now_ns)
        if len(calls) == 3:
            enough.set()
        raise error

    keeper = GapKeeper(run, lambda: 7, every_s=0.001)
    keeper.start()
    keeper.start()
    assert enough.wait(10)
    keeper.stop()
    assert set(calls) == {7}
    count = len(calls)
    assert not [one for one in threading.enumerate() if one.name == "session-gaps"]
    assert len(calls) == count


def test_one_that_never_began_ends() -> None:
    GapKeeper(lambda now: None, lambda: 0).stop()
