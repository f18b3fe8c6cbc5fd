"""Look before leaping: what an order would be, whether the checks let it pass, what IB says it would do.

Owns: reading IB's answers to «what if» and to a search. Leaves: the checks themselves (``orders.risk``).
Rule: nothing is placed and nothing written. IB's answer may fail while the checks stand; then it is told as unknown.
"""

from __future__ import annotations

import copy
import dataclasses
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ib_async import Contract, Order

from strategies.exceptions import TransientError
from trading.ib import mapping
from trading.ib.requests import ask, ask_in_turn
from trading.orders.drafts import OrderDraft

if TYPE_CHECKING:
    from trading.brokers.live import LiveBroker

ANSWER_S = 8.0
FOUND_AT_MOST = 25
_MARGIN = {
    "init_margin_change": "initMarginChange",
    "maint_margin_change": "maintMarginChange",
    "init_margin_after": "initMarginAfter",
    "maint_margin_after": "maintMarginAfter",
    "equity_with_loan_after": "equityWithLoanAfter",
    "commission": "commission",
    "min_commission": "minCommission",
    "max_commission": "maxCommission",
}


async def preview(broker: LiveBroker, contract: Contract, order: Order, owner: str) -> dict[str, Any]:
    """Return ``order`` (as it would go on record), ``denied`` (None, or code, text, limit, value) and ``what_if``.

    Raises: OrderDeniedError when IB does not know the contract.
    """
    [qualified] = await broker.qualify_all([contract])
    await broker.prepare([qualified])
    draft, error = await broker.verdict(qualified, order, owner)
    denied = None if error is None else {"code": error.code, "message": error.message, **error.fields}
    return {"order": describe(draft), "denied": denied, "what_if": await _what_if(broker, qualified, order, draft)}


async def _what_if(broker: LiveBroker, contract: Contract, order: Order, draft: OrderDraft) -> dict[str, Any]:
    wanted = copy.copy(order)
    wanted.account, wanted.transmit, wanted.orderId = draft.account, True, 0
    try:
        state: Any = await ask(
            broker.ib.whatIfOrderAsync(contract, wanted), "what the order would do", timeout_s=ANSWER_S
        )
    except TransientError as error:
        return {"known": False, "message": error.message}
    except ConnectionError as error:  # raised while it was sent
        return {"known": False, "message": f"The connection to IB is down: {error}"}
    if isinstance(state, list):  # ib_async's word for «refused»
        return {"known": False, "message": "IB would refuse this order; its reason stands in the log."}
    values = {name: mapping.to_optional_decimal(getattr(state, field, "")) for name, field in _MARGIN.items()}
    texts = {name: None if value is None else f"{value:f}" for name, value in values.items()}
    return {"known": True, "message": str(state.warningText or ""), "currency": state.commissionCurrency, **texts}


def describe(draft: OrderDraft) -> dict[str, Any]:
    """Return a draft by its parts as JSON has them; what is not set is left out."""
    left_out = (
        "contract",
        "code_hash",
        "params_revision",
        "client_id",
        "algo_strategy",
        "parent_ref",
        "transmitted",
        "purpose",
    )
    values = {
        field.name: _plain(getattr(draft, field.name))
        for field in dataclasses.fields(draft)
        if field.name not in left_out
    }
    contract = draft.contract
    named = {
        "con_id": contract.con_id,
        "symbol": contract.symbol,
        "sec_type": contract.sec_type,
        "exchange": contract.exchange,
        "currency": contract.currency,
        "local_symbol": contract.local_symbol,
    }
    return {**named, **{name: value for name, value in values.items() if value not in (None, "", False)}}


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat() if isinstance(value, datetime) else value


async def find_contracts(broker: LiveBroker, pattern: str) -> list[dict[str, Any]]:
    """Return what IB lists for a symbol or a part of a name, at most 25.

    Raises: TransientError when IB does not answer.
    """
    rows = await ask_in_turn(
        broker.ib, lambda: broker.ib.reqMatchingSymbolsAsync(pattern), "matching symbols", timeout_s=ANSWER_S
    )
    found = [row.contract for row in rows or () if row.contract is not None and row.contract.conId]
    return [
        {
            "con_id": contract.conId,
            "symbol": contract.symbol,
            "sec_type": contract.secType,
            "primary_exchange": contract.primaryExchange,
            "currency": contract.currency,
            "description": str(getattr(contract, "description", "") or ""),
        }
        for contract in found[:FOUND_AT_MOST]
    ]
