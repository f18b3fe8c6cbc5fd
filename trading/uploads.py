"""Take an uploaded Flex statement: bounded while it is read, kept under its SHA-256 until the engine reads it."""

from __future__ import annotations

from collections.abc import Iterable

from portfolio.flex import store
from strategies.exceptions import ConfigError, TransientError

MAX_STATEMENT_BYTES = 20 * 1_048_576
_BEFORE_XML = b"\xef\xbb\xbf \t\r\n"


def keep_statement(chunks: Iterable[bytes]) -> str:
    """Store a statement; return its SHA-256.

    Raises: ConfigError when it is too large or no XML; TransientError (disk_full) when it cannot be written.
    """
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > MAX_STATEMENT_BYTES:
            raise ConfigError(
                f"The statement is larger than {MAX_STATEMENT_BYTES} bytes; ask IB for fewer days.", code="too_large"
            )
    if not bytes(data[:64]).lstrip(_BEFORE_XML).startswith(b"<"):
        raise ConfigError("This is no XML file; download the statement from IB as XML.", code="bad_statement")
    try:
        return store.keep(bytes(data))
    except OSError as error:
        raise TransientError(f"The statement cannot be stored: {error.strerror}.", code="disk_full") from error
