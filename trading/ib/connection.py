"""One IB session: connect, say why not, notice when it is gone, connect again.

Owns: one ``IB`` for the life of the object, the account check, the probe that notices a silent line, order ids that
never go back. Leaves: what to do on a loss or return (the owner is told through ``on_state`` and ``on_error``).
Rule: everything happens on one loop. ib_async's own start is not used: it asks for positions on every connection,
which makes TWS send every position change to all of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ib_async import IB
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from strategies.exceptions import ConfigError, TransientError
from trading.ib import codes
from trading.ib.paced import PacedSender
from trading.ib.pacing import Budget
from trading.ib.requests import ask
from trading.ib.tap import WireTap

logger = logging.getLogger(__name__)

StateListener = Callable[[bool, str], None]
ErrorListener = Callable[[int, str, int], None]

PAPER_PREFIX = "D"  # DU…, DF…: IB's paper accounts
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.5, 15.0
MAX_FRAME = 16 * 1024 * 1024  # bytes; scanner parameters, the largest real answer, are some 2 MB
PROBE_AFTER_S, PROBE_TIMEOUT_S = 4.0, 8.0  # a dead line is noticed within 14 s, at the worst moment to fall silent


class _Stopped(Exception):  # noqa: N818 - a signal to the retry loop, not an error
    pass


class IBConnection:
    """One client id's session with TWS or a gateway. Units: seconds."""

    def __init__(
        self,
        client_id: int,
        *,
        host: str,
        port: int,
        role: str,
        name: str,
        connect_timeout_s: float,
        expected_account: str = "",
        on_state: StateListener | None = None,
        on_error: ErrorListener | None = None,
        on_decode_error: Callable[[str], None] | None = None,
        paper_only: bool = True,
        first_order_id: int = 1,
        budget: Budget | None = None,
    ) -> None:
        self.client_id = client_id
        self.host, self.port = host, port
        self.role, self.name = role, name
        self.message = ""
        self.account = ""
        self.upstream_ok = True
        self.ib = IB()
        self._connect_timeout_s = connect_timeout_s
        self._expected_account = expected_account
        self._paper_only = paper_only
        self._on_state, self._on_error = on_state, on_error
        self._on_decode_error = on_decode_error
        self._announced = False
        self._attempt: asyncio.Future[None] | None = None
        self._probe: asyncio.Task[None] | None = None
        self._order_id_floor = first_order_id
        self._by_us = False
        self._is_old_line_open = False
        self._budget = budget or Budget()
        self._sender = PacedSender(self.ib, client_id, self._budget)
        self._prepare(self.ib)

    def _prepare(self, ib: IB) -> None:
        ib.RaiseRequestErrors = True
        ib.TimezoneTWS = "UTC"  # times without a zone would be read in the host's
        ib.errorEvent -= ib._onError  # it asks for an account summary at every 1102, and IB allows two
        ib.errorEvent += self._handle_error
        ib.disconnectedEvent += self._handle_disconnect
        ib.client.apiError += self._handle_socket_error
        WireTap.of(ib).decode_errors.append(self._handle_decode_error)
        client: Any = ib.client
        self._close_client = client.disconnect
        client.disconnect = self._closed_by_us
        client.conn.hasData += self._check_frame
        client.conn.disconnected += self._handle_closed
        client.getReqId = self._next_id  # the gateway's counter may be rolled back by its restart, ours may not

    def _closed_by_us(self) -> None:
        self._by_us = True
        self._fail_requests()
        self._close_client()

    def _fail_requests(self) -> None:
        """Tell all who wait for an answer: ib_async does so only when the other side closes, else they wait on."""
        wrapper: Any = self.ib.wrapper
        for future in wrapper._futures.values():
            if not future.done():
                future.set_exception(ConnectionError("The line was closed."))
                future.exception()  # nobody may wait for it any more, which is no news

    # ids

    def _next_id(self) -> int:
        client: Any = self.ib.client
        if not client.isReady():
            raise ConnectionError("Not connected")
        number = max(int(client._reqIdSeq), self._order_id_floor)
        client._reqIdSeq = self._order_id_floor = number + 1
        return number

    # state

    @property
    def connected(self) -> bool:
        """Tell whether the session is up now."""
        return bool(self.ib.isConnected()) and self._announced

    def status(self) -> dict[str, Any]:
        """Describe the connection for the heartbeat row."""
        return {
            "client_id": self.client_id,
            "role": self.role,
            "name": self.name,
            "connected": self.connected,
            "host": self.host,
            "port": self.port,
            "message": self.message,
            "budget": self._budget.of_client(self.client_id, time.monotonic()),
        }

    def _say(self, connected: bool, message: str) -> None:
        self.message = message
        if self._on_state is not None:
            self._on_state(connected, message)

    # connecting

    async def connect_once(self) -> None:
        """Connect and check the account.

        Raises: TransientError (refused, connect_timeout, client_id_in_use, client_limit, connection_closed,
        unreachable, not_a_gateway) when it may work later;
        ConfigError (wrong_account, not_a_paper_account) when it must not be used.
        """
        if self.connected:
            return
        self._sender.clear()
        self._budget.open_socket(self.client_id)
        try:
            await self._open()
            self._check_account(self._accounts())
        except BaseException:
            self._close()
            raise
        self.upstream_ok, self._by_us = True, False
        if self.client_id == 0:
            self.ib.reqAutoOpenOrders(True)  # manual orders of TWS become ours to see and cancel
        self._announced = True
        self._probe = asyncio.get_running_loop().create_task(self._probe_line(), name=f"probe-{self.client_id}")
        logger.info("connected client_id=%s name=%s account=%s", self.client_id, self.name, self.account)
        self._say(True, f"Connected to {self.host}:{self.port} as client {self.client_id}.")
        self.ib.connectedEvent.emit()

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        failure = self._attempt = loop.create_future()
        where = f"{self.host}:{self.port}"
        self.ib.wrapper.clientId = self.client_id
        client: Any = self.ib.client
        self._is_old_line_open = client.conn.transport is not None  # its end comes first, and is not this attempt's
        start = loop.create_task(client.connectAsync(self.host, self.port, self.client_id, self._connect_timeout_s))
        try:
            # 326 closes the socket but leaves ib_async waiting for its whole timeout: whoever speaks first decides
            await asyncio.wait({start, failure}, return_when=asyncio.FIRST_COMPLETED)
            # a refused connect says so twice, and the connect itself says it precisely; 326 only this way
            if failure.done() and (not start.done() or isinstance(failure.exception(), TransientError)):
                failure.result()
            await start
        except TimeoutError as error:
            message = f"{where} did not answer within {self._connect_timeout_s:g} s. Is its API enabled?"
            raise TransientError(message, code="connect_timeout") from error
        except ConnectionRefusedError as error:
            message = f"Nothing listens on {where}. Start TWS or the gateway and enable its API port."
            raise TransientError(message, code="refused") from error
        except ConnectionError as error:
            raise TransientError(f"{where} closed the connection: {error}.", code="connection_closed") from error
        except OSError as error:
            message = f"{where} cannot be reached: {error}. Check MATS_IB_HOST and MATS_IB_PORT."
            raise TransientError(message, code="unreachable") from error
        finally:
            self._attempt = None
            await self._finish(start, failure)

    @staticmethod
    async def _finish(start: asyncio.Task[None], failure: asyncio.Future[None]) -> None:
        failure.cancel()
        if not start.done():
            start.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await start

    def _accounts(self) -> list[str]:
        try:
            return self.ib.client.getAccounts()
        except ConnectionError as error:
            where = f"{self.host}:{self.port}"
            message = f"{where} closed the connection as soon as the session was up."
            raise TransientError(message, code="connection_closed") from error

    def _check_account(self, accounts: list[str]) -> None:
        expected = self._expected_account or self.account  # after a reconnect no other account either
        if expected and expected not in accounts:
            raise ConfigError(
                f"The gateway is logged in to {', '.join(accounts)}, not to {expected}. "
                "Log in to the right account, or change MATS_IB_ACCOUNT; each account needs a MATS_HOME of its own.",
                code="wrong_account",
                accounts=accounts,
            )
        account = expected or accounts[0]
        if self._paper_only and not account.startswith(PAPER_PREFIX):
            raise ConfigError(
                f"{account} is not a paper account. MATS trades real money only when MATS_ALLOW_LIVE=true and "
                "MATS_LIVE_ACCOUNT names the account.",
                code="not_a_paper_account",
                account=account,
            )
        self.account = account

    async def connect_forever(self, stop_event: asyncio.Event) -> bool:
        """Try until connected; return False when ``stop_event`` was set first. Every failed try is reported.

        Raises: ConfigError when the account must not be used.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TransientError),
            wait=wait_exponential_jitter(multiplier=BACKOFF_FIRST_S, max=BACKOFF_MAX_S, jitter=BACKOFF_FIRST_S),
            sleep=lambda seconds: self._pause(stop_event, seconds),
            before_sleep=self._report_try,
            reraise=True,
        )
        try:
            if stop_event.is_set():
                return False
            await retrying(self.connect_once)
        except _Stopped:
            return False
        except ConfigError as error:
            self._say(False, error.message)
            raise
        return True

    @staticmethod
    async def _pause(stop_event: asyncio.Event, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(stop_event.wait(), seconds)
        if stop_event.is_set():
            raise _Stopped

    def _report_try(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        message = error.message if isinstance(error, TransientError) else str(error)
        logger.warning("not connected client_id=%s attempt=%s reason=%s", self.client_id, state.attempt_number, message)
        wait_s = state.next_action.sleep if state.next_action is not None else 0.0
        self._say(False, f"{message} Next try in {wait_s:.1f} s.")

    def disconnect(self) -> None:
        """Close the session; the owner is told once."""
        was_up = self._announced
        self._announced = False
        self._close()
        if was_up:
            self._say(False, "Disconnected.")

    def _close(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None
        client: Any = self.ib.client
        if client.isReady():
            self.ib.disconnect()
        elif client.connState != client.DISCONNECTED:
            client.disconnect()
        self._budget.close_socket(self.client_id)

    # what the line says

    def _handle_error(self, req_id: int, code: int, text: str, contract: Any) -> None:
        if code == codes.CLIENT_ID_IN_USE:
            self._fail_attempt(
                TransientError(
                    f"Client id {self.client_id} is in use at the gateway. Stop the program that holds it, or restart "
                    "the gateway if it died.",
                    code="client_id_in_use",
                    client_id=self.client_id,
                )
            )
        if code in codes.UPSTREAM_LOST:
            self.upstream_ok = False
        elif code in codes.UPSTREAM_BACK:
            self.upstream_ok = True
        if self._on_error is not None:
            self._on_error(code, text, req_id)

    def _handle_socket_error(self, text: str) -> None:
        if not text.startswith("API connection failed"):  # ib_async's echo of an exception that it raises as well
            self._fail_attempt(ConnectionError(text))

    def _handle_closed(self, _: str) -> None:
        if self._is_old_line_open:
            self._is_old_line_open = False
            return
        # ib_async says nothing of a close before the greeting and would wait for its whole timeout
        self._fail_attempt(ConnectionError("it ended before the session was up"))

    def _fail_attempt(self, error: Exception) -> None:
        if self._attempt is not None and not self._attempt.done():
            self._attempt.set_exception(error)

    def _handle_decode_error(self, text: str) -> None:
        logger.error("unreadable message client_id=%s text=%s", self.client_id, text)
        if self._on_decode_error is not None:
            self._on_decode_error(text)

    def _handle_disconnect(self) -> None:
        if not self._announced:
            return
        self._announced = False
        self._budget.close_socket(self.client_id)
        if self._probe is not None and self._probe is not asyncio.current_task():
            self._probe.cancel()
        self._probe = None
        if self._by_us:
            self._say(False, "Disconnected.")
            return
        logger.warning("connection lost client_id=%s name=%s", self.client_id, self.name)
        self._say(False, "The gateway closed the connection.")

    def _check_frame(self, _: bytes) -> None:
        """Drop the line when the next message claims an absurd length: everything behind it would wait for ever."""
        waiting: bytes = self.ib.client._data
        if len(waiting) >= 4 and int.from_bytes(waiting[:4], "big") > MAX_FRAME:
            self._handle_decode_error(f"a message of {int.from_bytes(waiting[:4], 'big')} bytes")
            self._fail_attempt(
                TransientError(
                    f"What listens on {self.host}:{self.port} does not speak IB's protocol. Check MATS_IB_PORT.",
                    code="not_a_gateway",
                )
            )
            self._lose_line("The gateway sent something unreadable; the line was dropped.")

    async def _probe_line(self) -> None:
        """Ask for the time whenever nothing arrived for a while: a half-open socket never says that it is dead."""
        loop = asyncio.get_running_loop()
        seen, since = -1, loop.time()
        while self.ib.isConnected():
            await asyncio.sleep(PROBE_AFTER_S / 2)
            received = self.ib.client._numMsgRecv
            if received != seen or WireTap.of(self.ib).reader.is_paused:
                seen, since = received, loop.time()
            elif loop.time() - since >= PROBE_AFTER_S and not await self._is_alive(received):
                silent_s = PROBE_AFTER_S + PROBE_TIMEOUT_S
                self._lose_line(f"The gateway was silent for {silent_s:g} s; the line was dropped.")
                return

    async def _is_alive(self, received: int) -> bool:
        """Ask for a sign of life; whatever came meanwhile is one, since the answer may stand behind a long replay."""
        try:
            await ask(self.ib.reqCurrentTimeAsync(), "a sign of life", timeout_s=PROBE_TIMEOUT_S)
        except TransientError as error:
            if self.ib.client._numMsgRecv != received:
                return True
            logger.warning("no sign of life client_id=%s reason=%s", self.client_id, error.message)
            return False
        return True

    def _lose_line(self, reason: str) -> None:
        if not self._announced:
            return
        self._announced = False
        if self._probe is not None and self._probe is not asyncio.current_task():
            self._probe.cancel()
        self._probe = None
        transport = self.ib.client.conn.transport
        if transport is not None:
            transport.abort()  # nobody is there to answer an orderly close
        self.ib.disconnect()
        self._budget.close_socket(self.client_id)
        logger.warning("line dropped client_id=%s reason=%s", self.client_id, reason)
        self._say(False, reason)
