"""Bytes in, handshake and frames out: whole, split anywhere, or junk."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.gateway.protocol import Frame, Handshake, ServerCodec, frame, handshake_reply
from trading.gateway.protocol_errors import FrameError, HandshakeError, ProtocolError
from trading.gateway.versions import negotiate

HELLO = b"API\0" + frame(b"v157..178")


def test_handshake_then_messages_arrive_in_order() -> None:
    codec = ServerCodec()
    events = codec.receive(HELLO + frame(b"71\x002\x007\0\0") + frame(b"49\x001\0"))
    assert events == [Handshake(178), Frame(["71", "2", "7", ""]), Frame(["49", "1"])]
    assert codec.buffered == 0


@given(st.lists(st.integers(1, 40), max_size=20))
def test_any_split_of_the_stream_gives_the_same_events(cuts: list[int]) -> None:
    stream = HELLO + frame(b"71\x002\x007\0\0") + frame(b"49\x001\0")
    codec, events, rest = ServerCodec(), [], stream
    for cut in cuts:
        events += codec.receive(rest[:cut])
        rest = rest[cut:]
    events += codec.receive(rest)
    assert events == ServerCodec().receive(stream)


@pytest.mark.parametrize("opening", [b"GET / HTTP/1.1\r\n", b"API\1", b"\0\0\0\x09v157..178", b"63\0"])
def test_socket_that_does_not_open_with_api_is_refused(opening: bytes) -> None:
    with pytest.raises(HandshakeError):
        ServerCodec().receive(opening)


@pytest.mark.parametrize(
    ("offer", "version"),
    [(b"v157..178", 178), (b"v100..157", 157), (b"v100..151", 151), (b"v100..225 +PACEAPI", 178), (b"v176", 176)],
)
def test_highest_common_version_is_spoken(offer: bytes, version: int) -> None:
    assert negotiate(offer) == version


@pytest.mark.parametrize("offer", [b"v100..150", b"v179..225", b"v178..157", b"157..178", b"", b"v..", b"v1e3..178"])
def test_version_ranges_that_do_not_meet_ours_are_refused(offer: bytes) -> None:
    with pytest.raises(HandshakeError):
        negotiate(offer)


def test_handshake_reply_has_exactly_two_fields() -> None:
    reply = handshake_reply(178, "20260302 15:00:00 UTC")
    assert reply[4:].split(b"\0") == [b"178", b"20260302 15:00:00 UTC", b""]


@pytest.mark.parametrize("length", [0, (1 << 20) + 1, 0xFFFFFFFF])
def test_impossible_length_is_refused_before_anything_is_buffered(length: int) -> None:
    codec = ServerCodec()
    codec.receive(HELLO)
    with pytest.raises(FrameError):
        codec.receive(struct.pack(">I", length) + b"x")


def test_message_without_final_nul_is_refused() -> None:
    codec = ServerCodec()
    codec.receive(HELLO)
    with pytest.raises(FrameError):
        codec.receive(frame(b"49\x001"))


@given(st.binary(max_size=400))
def test_junk_after_the_handshake_gives_frames_or_a_protocol_error(junk: bytes) -> None:
    codec = ServerCodec()
    codec.receive(HELLO)
    try:
        events = codec.receive(junk)
    except ProtocolError:
        return
    assert all(isinstance(event, Frame) for event in events)
    assert codec.buffered <= len(junk)
