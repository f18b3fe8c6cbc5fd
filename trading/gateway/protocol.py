"""The wire's outer layer, without sockets: bytes in, handshake and frames out.

Owns: the opening ``API\\0``, the version exchange, u32 length prefixes, NUL-terminated fields and the limits on all.
Leaves: what the fields mean (``protocol_requests``), when bytes are read or written (``server``).

    client → ``API\\0`` u32 ``v157..178``        server → u32 ``178\\0yyyymmdd hh:mm:ss TZ\\0``
    then both ways: u32 length, fields, each ended by NUL; field 0 is the message id.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .protocol_errors import FrameError, HandshakeError
from .versions import negotiate

MAGIC = b"API\0"
MAX_HANDSHAKE_BYTES = 256
MAX_FRAME_BYTES = 1 << 20  # the longest honest request, an order with hundreds of legs, stays far below
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Handshake:
    """The client opened the session; ``version`` is what both sides speak from now on."""

    version: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of the client, cut into its text fields."""

    fields: list[str]


def frame(payload: bytes) -> bytes:
    """Prefix a payload with its length."""
    return _LENGTH.pack(len(payload)) + payload


def handshake_reply(version: int, stamp: str) -> bytes:
    """Answer the client's version range: exactly two fields, by whose number clients recognise it."""
    return frame(f"{version}\0{stamp}\0".encode("ascii"))


def split_fields(payload: bytes) -> list[str]:
    """Cut a payload into its NUL-terminated fields; bytes that are no UTF-8 become backslash escapes.

    Raises: FrameError when the last field is not terminated.
    """
    if not payload.endswith(b"\0"):
        raise FrameError("A message does not end with NUL.")
    return payload[:-1].decode("utf-8", "backslashreplace").split("\0")


class ServerCodec:
    """Turn one client's byte stream into a Handshake and then Frames.

    Raises: HandshakeError or FrameError from ``receive``; after either the stream is lost and must be closed.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.version = 0
        self._max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()
        self._greeted = False

    @property
    def buffered(self) -> int:
        """Bytes that wait for the rest of their message."""
        return len(self._buffer)

    def receive(self, data: bytes) -> list[Handshake | Frame]:
        """Take bytes as they came and return the events that they complete, in order."""
        self._buffer += data
        if not self._greeted and not self._take_magic():
            return []
        events: list[Handshake | Frame] = []
        offset = 0
        while (payload := self._payload_at(offset)) is not None:
            offset += _LENGTH.size + len(payload)
            events.append(self._event(payload))
        if offset:
            del self._buffer[:offset]
        return events

    def _take_magic(self) -> bool:
        head = bytes(self._buffer[: len(MAGIC)])
        if not MAGIC.startswith(head):
            raise HandshakeError("The socket does not open with API and NUL: not an API client, or one too old.")
        if len(head) < len(MAGIC):
            return False
        del self._buffer[: len(MAGIC)]
        self._greeted = True
        return True

    def _payload_at(self, offset: int) -> bytes | None:
        buffer = self._buffer
        start = offset + _LENGTH.size
        if len(buffer) < start:
            return None
        (length,) = _LENGTH.unpack_from(buffer, offset)
        limit = self._max_frame_bytes if self.version else MAX_HANDSHAKE_BYTES
        if not 0 < length <= limit:
            raise FrameError(f"A frame announces {length} bytes; 1 to {limit} are allowed.")
        if len(buffer) < start + length:
            return None
        return bytes(buffer[start : start + length])

    def _event(self, payload: bytes) -> Handshake | Frame:
        if self.version:
            return Frame(split_fields(payload))
        self.version = negotiate(payload)
        return Handshake(self.version)
