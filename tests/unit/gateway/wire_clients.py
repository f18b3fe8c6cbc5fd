"""The two real clients, unplugged: what they would send, and what they understand of what we send."""

from __future__ import annotations

from datetime import UTC, tzinfo
from typing import Any

import ib_async
from ib_async.client import Client
from ib_async.decoder import Decoder
from ibapi.client import EClient
from ibapi.wrapper import EWrapper


class Heard:
    """Collects every callback as (name, arguments)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.ib = ib_async.IB()
        self.defaultTimezone: tzinfo = UTC

    def __getattr__(self, name: str) -> Any:
        def record(*arguments: Any) -> None:
            self.calls.append((name, arguments))

        return record


class UnpluggedIbAsync(Client):
    """ib_async's own encoder at a chosen server version; keeps the messages."""

    def __init__(self, version: int) -> None:
        super().__init__(Heard())  # type: ignore[no-untyped-call]  # ib_async leaves it untyped
        self.connState = Client.CONNECTED
        self._serverVersion = version
        self.clientId = 3
        self.sent: list[str] = []

    def sendMsg(self, msg: str) -> None:
        """Keep instead of sending."""
        self.sent.append(msg)

    def fields(self) -> list[str]:
        """The last message, cut into fields."""
        return self.sent[-1][:-1].split("\0")


class UnpluggedIbapi(EClient):  # type: ignore[misc]  # ibapi has no types
    """The official client's own encoder at a chosen server version; keeps the messages."""

    def __init__(self, version: int) -> None:
        super().__init__(EWrapper())
        self.serverVersion_ = version
        self.sent: list[str] = []

    def isConnected(self) -> bool:
        """Pretend."""
        return True

    def sendMsg(self, msg: str) -> None:
        """Keep instead of sending."""
        self.sent.append(msg)

    def fields(self) -> list[str]:
        """The last message, cut into fields."""
        return self.sent[-1][:-1].split("\0")


def ib_async_hears(frame: bytes, version: int) -> list[tuple[str, tuple[Any, ...]]]:
    """Return the callbacks that a frame causes in ib_async; a decode error is raised."""
    wrapper = Heard()
    decoder = Decoder(wrapper, version)  # type: ignore[arg-type]  # the recorder stands in for the wrapper
    fields = frame[4:-1].decode().split("\0")
    decoder.handlers[int(fields[0])](fields)
    return wrapper.calls


def ibapi_hears(frame: bytes, version: int) -> list[tuple[str, tuple[Any, ...]]]:
    """Return the callbacks that a frame causes in the official client; a decode error is raised."""
    from ibapi import comm
    from ibapi.decoder import Decoder as OfficialDecoder

    class Recorder(EWrapper):  # type: ignore[misc]  # ibapi has no types
        """EWrapper's methods are inspected by signature, so only the wanted ones are replaced."""

        def __init__(self) -> None:
            super().__init__()
            self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def recording(name: str) -> Any:
        def record(self: Recorder, *arguments: Any) -> None:
            self.calls.append((name, arguments))

        return record

    for name in ("openOrder", "completedOrder", "contractDetails", "execDetails", "tickPrice", "tickSize", "pnlSingle"):
        setattr(Recorder, name, recording(name))
    for name in (
        "securityDefinitionOptionParameter",
        "tickOptionComputation",
        "tickByTickAllLast",
        "tickByTickBidAsk",
        "tickByTickMidPoint",
        "historicalTicks",
        "historicalTicksBidAsk",
        "historicalTicksLast",
        "histogramData",
        "scannerData",
        "scannerDataEnd",
        "smartComponents",
        "historicalData",
        "historicalDataUpdate",
        "symbolSamples",
        "commissionReport",
        "position",
        "realtimeBar",
    ):
        setattr(Recorder, name, recording(name))
    wrapper = Recorder()
    decoder = OfficialDecoder(wrapper, version)
    decoder.interpret(comm.read_fields(frame[4:]))
    return wrapper.calls
