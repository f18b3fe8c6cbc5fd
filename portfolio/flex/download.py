"""Fetch a statement from IB's Flex Web Service: ask for it, then ask again until it is made.

Owns: the two requests, patience, and clear words for what IB answers. Leaves: reading the file (``parse``), keeping it
(``store``). Rule: the token goes into the request's query, because IB takes it nowhere else, and nowhere further: no
message, log line or cause of an error carries the address.

Source: Flex Web Service version 3: SendRequest gives a ReferenceCode, GetStatement the file, or a FlexStatementResponse
with an error code; some codes mean "shortly".
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential

from portfolio.flex.parse import LARGEST_FILE, read_xml, response_error
from strategies.exceptions import ConfigError, TransientError

logger = logging.getLogger(__name__)
T = TypeVar("T")

IB_DOMAIN = ".interactivebrokers.com"
SHORTLY = {"1001", "1004", "1005", "1006", "1007", "1008", "1009", "1018", "1019", "1021"}
_REMEDIES = {
    "1003": "IB has no such statement yet; try again after its nightly run.",
    "1010": "Make an Activity Flex query; the legacy kind is no longer served.",
    "1011": "Activate the Flex Web Service in IB's Client Portal.",
    "1012": "Make a new token in IB's Client Portal and set MATS_FLEX_TOKEN.",
    "1013": "The token is bound to another address; allow this machine's in IB's Client Portal.",
    "1014": "Check MATS_FLEX_QUERY against the query's id in IB's Client Portal.",
    "1015": "Check MATS_FLEX_TOKEN against the token in IB's Client Portal.",
}
_BUSY = {429, 500, 502, 503, 504}
_STEP_S = 60.0


def _is_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


# httpx logs each request's whole address at INFO, and ours carries the token.
logging.getLogger("httpx").addFilter(_is_warning)


@dataclass(frozen=True, slots=True)
class FlexAccess:
    """Where and how to ask. Units: seconds, bytes."""

    token: str = field(repr=False)
    query_id: str
    url: str
    deadline_s: float = 300.0
    first_wait_s: float = 2.0
    longest_wait_s: float = 30.0
    largest: int = LARGEST_FILE


def download(access: FlexAccess, stop: threading.Event | None = None) -> bytes:
    """Return the bytes of the statement that the query makes now; setting ``stop`` ends the waiting.

    Raises: ConfigError when token or query are missing or refused, or the answer is none of IB's; TransientError when
    IB cannot be reached or is not ready within the deadline.
    """
    if not access.token or not access.query_id:
        raise ConfigError(
            "Set MATS_FLEX_TOKEN and MATS_FLEX_QUERY to download statements; see docs/flex.md.", code="flex_not_set_up"
        )
    started = time.monotonic()
    with httpx.Client(follow_redirects=False, headers={"User-Agent": "MATS"}) as client:
        session = _Session(client, access, started + access.deadline_s, stop or threading.Event())
        reference, address = session.patiently(session.request)
        data = session.patiently(lambda: session.collect(reference, address))
    logger.info("flex statement downloaded bytes=%d seconds=%.1f", len(data), time.monotonic() - started)
    return data


class _Session:
    """The two requests of one download, within one deadline."""

    def __init__(self, client: httpx.Client, access: FlexAccess, deadline: float, stop: threading.Event) -> None:
        self._client = client
        self._access = access
        self._deadline = deadline
        self._stop = stop

    def patiently(self, step: Callable[[], T]) -> T:
        """Repeat a step while IB says "shortly" or cannot be reached, with growing pauses."""
        retrying = Retrying(
            retry=retry_if_exception_type(TransientError),
            wait=wait_exponential(multiplier=self._access.first_wait_s, max=self._access.longest_wait_s),
            stop=self._is_over,
            sleep=self._pause,
            reraise=True,
        )
        return retrying(step)

    def request(self) -> tuple[str, str]:
        """Ask for the statement; return its reference code and the address to collect it from."""
        base = self._access.url.rstrip("/")
        data = self._get(f"{base}/SendRequest", self._access.query_id)
        root = read_xml(data)
        if root.tag != "FlexStatementResponse":
            raise _no_answer()
        reference = (root.findtext("ReferenceCode") or "").strip()
        if (root.findtext("Status") or "").strip() != "Success" or not reference:
            raise _said(*response_error(root))
        return reference, self._collecting_address((root.findtext("Url") or "").strip(), f"{base}/GetStatement")

    def collect(self, reference: str, address: str) -> bytes:
        """Return the statement's bytes."""
        data = self._get(address, reference)
        if b"<FlexStatementResponse" in data[:4096]:
            raise _said(*response_error(read_xml(data)))
        return data

    def _collecting_address(self, said: str, standard: str) -> str:
        """Take the address that IB names when it is IB's: the token goes to nobody else."""
        try:
            url = httpx.URL(said)
        except httpx.InvalidURL:
            return standard
        own = httpx.URL(standard)
        is_own = (url.scheme, url.host, url.port) == (own.scheme, own.host, own.port)
        return said if is_own or (url.scheme == "https" and url.host.endswith(IB_DOMAIN)) else standard

    def _get(self, address: str, query: str) -> bytes:
        left = max(self._deadline - time.monotonic(), 0.1)
        params = {"t": self._access.token, "q": query, "v": "3"}
        try:
            with self._client.stream("GET", address, params=params, timeout=min(left, _STEP_S)) as response:
                _check_status(response.status_code)
                return self._body(response)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # The cause is dropped: its request carries the address, and that the token.
            raise TransientError(
                f"IB's Flex Web Service cannot be reached ({type(error).__name__}).", code="flex_unreachable"
            ) from None

    def _body(self, response: httpx.Response) -> bytes:
        parts = bytearray()
        for part in response.iter_bytes():
            if parts and (time.monotonic() > self._deadline or self._stop.is_set()):
                raise TransientError("The download took too long and was ended.", code="flex_timeout")
            parts += part
            if len(parts) > self._access.largest:
                raise ConfigError(
                    f"IB's answer is larger than {self._access.largest:,} bytes; choose a shorter period in the query.",
                    code="flex_too_large",
                )
        return bytes(parts)

    def _pause(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def _is_over(self, state: RetryCallState) -> bool:
        return self._stop.is_set() or time.monotonic() + state.upcoming_sleep >= self._deadline


def _check_status(status: int) -> None:
    if status in _BUSY:
        raise TransientError(f"IB's Flex Web Service answers HTTP {status}.", code="flex_busy")
    if status != httpx.codes.OK:
        raise ConfigError(
            f"IB's Flex Web Service answers HTTP {status}; check MATS_FLEX_URL.", code="flex_bad_answer", status=status
        )


def _no_answer() -> ConfigError:
    return ConfigError("The answer is none of IB's Flex Web Service; check MATS_FLEX_URL.", code="flex_bad_answer")


def _said(code: str, text: str) -> ConfigError | TransientError:
    message = f"IB says {code}: {text}" if code else "IB's Flex Web Service gave neither a statement nor an error."
    if code in SHORTLY:
        return TransientError(f"{message} It was not ready in time; try again later.", code="flex_not_ready", ib=code)
    remedy = _REMEDIES.get(code)
    return ConfigError(f"{message} {remedy}" if remedy else message, code="flex_refused", ib=code)
