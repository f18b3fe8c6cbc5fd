"""What can be wrong with bytes that a client sent.

Owns: the codec's exceptions. Leaves: what is answered (``wire_hub``) and whether the socket survives (``server``).
"""

from __future__ import annotations


class ProtocolError(Exception):
    """The peer broke the wire's rules."""


class HandshakeError(ProtocolError):
    """The socket does not open like an API client: close it, there is nobody to answer."""


class FrameError(ProtocolError):
    """A frame's length is impossible: what follows cannot be found, so close the socket."""


class DecodeError(ProtocolError):
    """One message cannot be read to its last field: answer error 320 and do nothing."""

    def __init__(self, message: str, req_id: int = -1) -> None:
        super().__init__(message)
        self.req_id = req_id
