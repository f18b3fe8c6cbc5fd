"""Ask IB with a time limit: no answer, a late one and a refused one are errors, never an empty result.

Rule: «no rows» is a fact only when IB ended the answer; a timeout changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ib_async import IB, Contract, ContractDetails
from ib_async.wrapper import RequestError

from strategies.exceptions import NotFoundError, TransientError
from trading.ib import codes

Answer = TypeVar("Answer")
NO_SUCH_CONTRACT = 200
_TURNS = "mats_turns"
_POLL_S = 0.05
_ASK_AGAIN_S = 1.0


async def ask(request: Awaitable[Answer], what: str, *, timeout_s: float) -> Answer:
    """Await one of ib_async's requests.

    Raises: TransientError (no_answer, not_connected, request_refused) naming what was asked.
    """
    try:
        return await asyncio.wait_for(request, timeout_s)
    except TimeoutError as error:
        message = f"IB did not answer within {timeout_s:g} s: {what}."
        raise TransientError(message, code="no_answer", what=what) from error
    except RequestError as error:
        info = codes.describe(error.code)
        raise TransientError(
            f"IB refused {what}: {error.code} {error.message} {info.remedy}".rstrip(),
            code="request_refused",
            what=what,
            ib_code=error.code,
        ) from error
    except (ConnectionError, AssertionError) as error:
        raise TransientError(f"The connection to IB is down: {what}.", code="not_connected", what=what) from error


async def ask_in_turn(ib: IB, request: Callable[[], Awaitable[Answer]], what: str, *, timeout_s: float) -> Answer:
    """Await a request that carries no id, after those before it.

    ib_async keeps one answer of each kind: of two asked at once, one is never answered and the other may get its rows,
    so that the master's own open orders would pass for those of all clients.
    Raises: as ``ask``; the time limit counts from its turn.
    """
    turns: asyncio.Lock | None = getattr(ib.wrapper, _TURNS, None)
    if turns is None:
        turns = asyncio.Lock()
        setattr(ib.wrapper, _TURNS, turns)

    async def _asked() -> Answer:
        return await request()

    async with turns:
        return await ask(_asked(), what, timeout_s=timeout_s)


async def cancel_everything(ib: IB, *, wait_s: float, answer_s: float) -> int:
    """Have IB cancel every order of the account and wait up to ``wait_s``; return how many orders it still works.

    What came to IB after it was asked is cancelled by asking again.
    Raises: as ``ask``, for a list of open orders that did not come within ``answer_s``.
    """
    untyped: Any = ib
    deadline, ask_at = time.monotonic() + wait_s, 0.0
    while True:
        if time.monotonic() >= ask_at:
            untyped.reqGlobalCancel()
            ask_at = time.monotonic() + _ASK_AGAIN_S
        working = await ask_in_turn(ib, ib.reqAllOpenOrdersAsync, "open orders", timeout_s=answer_s)
        if not working or time.monotonic() > deadline:
            return len(working)
        await asyncio.sleep(_POLL_S)


async def contract_details(ib: IB, contract: Contract, *, timeout_s: float = 10.0) -> list[ContractDetails]:
    """Return what IB lists for a contract, possibly several.

    Raises: NotFoundError (unknown_contract) when IB knows none; TransientError when it cannot be asked.
    """
    what = f"contract details of {contract.symbol or contract.localSymbol or contract.conId}"
    try:
        found = await ask(_started(ib, contract), what, timeout_s=timeout_s)
    except TransientError as error:
        if error.fields.get("ib_code") != NO_SUCH_CONTRACT:
            raise
        found = []
    if not found:
        raise NotFoundError(f"IB knows no contract like {_words(contract)}.", code="unknown_contract")
    return found


async def _started(ib: IB, contract: Contract) -> list[ContractDetails]:
    return await ib.reqContractDetailsAsync(contract)


async def qualify(ib: IB, contract: Contract, *, timeout_s: float = 10.0) -> Contract:
    """Return the one listed contract that was meant, routed as asked.

    Raises: NotFoundError (unknown_contract, ambiguous_contract); TransientError when IB cannot be asked.
    """
    details = await contract_details(ib, contract, timeout_s=timeout_s)
    found = [row.contract for row in details if row.contract is not None]
    if contract.secType:
        found = [candidate for candidate in found if candidate.secType == contract.secType] or found
    if len({candidate.conId for candidate in found}) != 1:
        listed = ", ".join(f"{c.localSymbol or c.symbol} {c.primaryExchange} {c.currency}" for c in found[:6])
        message = f"The contract {_words(contract)} is ambiguous: {listed}. Name exchange, currency or conId."
        raise NotFoundError(message, code="ambiguous_contract")
    chosen = found[0]
    if contract.exchange:
        chosen.exchange = contract.exchange  # the listing names every venue; keep SMART where SMART was asked for
    return chosen


def _words(contract: Contract) -> str:
    """Say what was looked for as an operator would, without the wire's names."""
    words = (
        contract.secType, contract.symbol or contract.localSymbol, contract.lastTradeDateOrContractMonth,
        f"{contract.strike:g}" if contract.strike else "", contract.right, contract.exchange, contract.currency,
    )  # fmt: skip
    named = " ".join(word for word in words if word)
    return f"{named} (contract {contract.conId})" if contract.conId else named
