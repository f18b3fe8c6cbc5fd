"""Which server version a client gets, and from which version on a field exists.

Owns: the range 151–178, the negotiation, and every gate inside that range that changes a message's shape.
Leaves: the shapes themselves (``protocol_requests``, ``protocol_place_order``, ``protocol_responses``, …).
Rule: negotiated = min(the client's newest, 178), refused below 151. Nothing above 178 is spoken: 194 changes the error
message and 201 turns to protobuf, and every client that knows those still accepts 178.
"""

from __future__ import annotations

import re

from .protocol_errors import HandshakeError

MIN_VERSION = 151
MAX_VERSION = 178

STOCK_TYPE = 152
ASCII7 = 153
PRICE_BASED_VOLATILITY = 156
DURATION = 158
OPEN_ORDER_DURATION = 159
POST_TO_ATS = 160
AUTO_CANCEL_PARENT = 162
SUGGESTED_SIZE_ONLY = 163
DECIMAL_SIZES = 163
SIZE_RULES = 164
ADVANCED_REJECT = 166
MANUAL_ORDER_TIME = 169
PEG_FIELDS = 170
ISSUER_ID = 176
NO_FA_PROFILE = 177
PENDING_PRICE_REVISION = 178

_OFFER = re.compile(rb"v(\d{1,9})(?:\.\.(\d{1,9}))?(?: .*)?\0?", re.DOTALL)


def negotiate(offer: bytes) -> int:
    """Return the version to speak for a client's ``v<min>..<max>[ options]``.

    Raises: HandshakeError when the text is malformed or the ranges do not meet.
    """
    match = _OFFER.fullmatch(offer)
    if match is None:
        raise HandshakeError("The client's version range cannot be read.")
    lowest = int(match[1])
    highest = int(match[2]) if match[2] else lowest
    version = min(highest, MAX_VERSION)
    if version < MIN_VERSION or lowest > MAX_VERSION or lowest > highest:
        raise HandshakeError(
            f"The client speaks versions {lowest} to {highest}; this gateway speaks {MIN_VERSION} to {MAX_VERSION}."
        )
    return version
