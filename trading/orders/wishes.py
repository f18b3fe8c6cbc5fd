"""An order as a person or a program asks for it, read into contract, order and owner. Pure.

Owns: the names of a request's parts, their bounds, and what they become. Leaves: what fits together (``order_types``),
whose strategies there are (the engine), sending (``trade_manager``).
Shape: ``contract`` {con_id | symbol, sec_type, exchange, primary_exchange, currency, expiry, strike, right, multiplier,
local_symbol}; ``order`` {side, quantity, order_type, limit, stop, trail, trail_percent, limit_offset, tif, good_till,
good_after, outside_rth, algo, urgency}. Decimals are text, times ISO 8601 with a zone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from ib_async import Contract, Order

from strategies.exceptions import ConfigError, OrderDeniedError
from strategies.order_entry import bracket_orders
from strategies.order_types import TYPES, Terms, check_terms
from strategies.sizing import URGENCIES, order_of

DISCRETIONARY = "Discretionary"
SEC_TYPES = ("STK", "OPT", "FUT", "CASH", "FOP", "CFD", "BOND", "CMDTY", "FUND", "WAR", "CRYPTO")
SIDES = ("BUY", "SELL")

_DECIMAL = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,10})?", re.ASCII)
_WORDS: dict[str, re.Pattern[str]] = {
    "symbol": re.compile(r"[A-Za-z0-9][A-Za-z0-9 .&/_-]{0,31}"),
    "sec_type": re.compile("|".join(SEC_TYPES)),
    "exchange": re.compile(r"[A-Z0-9.]{1,20}"),
    "primary_exchange": re.compile(r"[A-Z0-9.]{1,20}"),
    "currency": re.compile(r"[A-Z]{3}"),
    "expiry": re.compile(r"[0-9]{6}([0-9]{2})?"),
    "right": re.compile(r"[CP]"),
    "multiplier": re.compile(r"[0-9]{1,9}(\.[0-9]{1,4})?"),
    "local_symbol": re.compile(r"[A-Za-z0-9 .&/_-]{1,40}"),
    "strike": _DECIMAL,
    "side": re.compile("|".join(SIDES)),
    "order_type": re.compile("|".join(re.escape(name) for name in TYPES)),
    "tif": re.compile(r"[A-Z]{3}"),
    "urgency": re.compile("|".join(URGENCIES)),
}
_PRICES = ("limit", "stop", "trail", "trail_percent", "limit_offset")
_CONTRACT = frozenset(
    {"symbol", "sec_type", "exchange", "primary_exchange", "currency", "expiry", "strike", "right", "multiplier"}
    | {"local_symbol", "con_id"}
)
_ORDER = frozenset(
    {"side", "quantity", "order_type", "tif", "good_till", "good_after", "outside_rth", "algo", "urgency"}
)
_MAX_CON_ID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be ordered, read and found whole. ``quantity`` signed."""

    contract: Contract
    quantity: Decimal
    terms: Terms
    algo: bool
    urgency: str

    def order(self) -> Order:
        """Return the order to send."""
        return order_of(self.quantity, self.terms, algo=self.algo, urgency=self.urgency, sec_type=self.contract.secType)


def _bad(name: str, text: str) -> ConfigError:
    return ConfigError(text, code="bad_order", errors={name: text})


def _word(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or not _WORDS[name].fullmatch(value):
        raise _bad(name, f"{name} {str(value)[:40]!r} cannot be used.")
    return value


def _number(given: Mapping[str, Any], name: str) -> Decimal | None:
    value = given.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise _bad(name, f"{name} must be a decimal as text, at most 12 digits and 10 decimals.")
    return Decimal(value)


def _moment(given: Mapping[str, Any], name: str) -> datetime | None:
    value = given.get(name)
    if value is None or value == "":
        return None
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) and len(value) <= 40 else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or not 2000 <= moment.year <= 2100:
        raise _bad(name, f"{name} must be a time with its zone, for example 2026-03-02T15:00:00Z.")
    return moment


def _switch(given: Mapping[str, Any], name: str) -> bool | None:
    value = given.get(name)
    if value is not None and not isinstance(value, bool):
        raise _bad(name, f"{name} must be true or false.")
    return value


def _only(given: Any, name: str, known: frozenset[str]) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise _bad(name, f"{name} must be an object.")
    unknown = sorted(str(part)[:40] for part in given if part not in known)
    if unknown:
        raise _bad(name, f"{name} takes no {', '.join(unknown)}.")
    return given


def read_contract(given: Any) -> Contract:
    """Return the contract that is meant; IB completes it later.

    Raises: ConfigError (bad_order) with the faulty part in ``errors``.
    """
    parts = _only(given, "contract", _CONTRACT)
    con_id = parts.get("con_id")
    if con_id is not None and (not isinstance(con_id, int) or isinstance(con_id, bool) or not 0 < con_id < _MAX_CON_ID):
        raise _bad("con_id", "con_id must be IB's contract id.")
    symbol = _word(parts, "symbol")
    if not con_id and not symbol and not parts.get("local_symbol"):
        raise _bad("symbol", "Say which instrument: symbol, local_symbol or con_id.")
    sec_type = _word(parts, "sec_type") or ("" if con_id else "STK")
    made = Contract(secType=sec_type, conId=con_id or 0)
    made.symbol, made.localSymbol = symbol, _word(parts, "local_symbol")
    is_smart = sec_type in ("STK", "OPT") or bool(con_id and not sec_type)
    made.exchange = _word(parts, "exchange") or ("SMART" if is_smart else "")
    made.primaryExchange, made.currency = _word(parts, "primary_exchange"), _word(parts, "currency")
    made.lastTradeDateOrContractMonth, made.right = _word(parts, "expiry"), _word(parts, "right")
    made.multiplier = _word(parts, "multiplier")
    strike = _number(parts, "strike")
    if strike is not None:
        made.strike = float(strike)
    if not con_id and sec_type == "STK" and not made.currency:
        made.currency = "USD"
    return made


def contract_of_text(text: str) -> Contract:
    """Return the contract that a short text means: ``AAPL``, ``265598`` (a conId), or its kind, symbol and so on.

    Shape: ``SEC_TYPE SYMBOL [EXCHANGE] [CURRENCY] [EXPIRY] [STRIKE] [C|P]``, separated by blanks: ``STK AAPL SMART
    USD``, ``FUT ES CME USD 20260320``, ``OPT SPY SMART USD 20260320 500 C``. It is read, never evaluated.
    Raises: ConfigError (bad_order).
    """
    words = text.split()
    if len(words) == 1:
        return read_contract({"con_id": int(text)} if text.isascii() and text.isdigit() else {"symbol": words[0]})
    names = ("sec_type", "symbol", "exchange", "currency", "expiry", "strike", "right")
    if not 2 <= len(words) <= len(names):
        raise _bad("contract", f"{text[:60]!r} is no contract; write for example STK AAPL SMART USD.")
    return read_contract(dict(zip(names, words, strict=False)))


def read_terms(given: Any, name: str = "order", sec_type: str = "STK") -> tuple[Decimal | None, Terms, bool, str]:
    """Return quantity (signed, None without one), terms, whether IB's Adaptive is wanted, and how urgent it is.

    Raises: ConfigError (bad_order).
    """
    parts = _only(given, name, _ORDER | frozenset(_PRICES))
    side, quantity = _word(parts, "side"), _number(parts, "quantity")
    if quantity is not None:
        if not side:
            raise _bad("side", "Say BUY or SELL.")
        if not quantity > 0:
            raise _bad("quantity", "A quantity is more than zero; the side says which way.")
        quantity = quantity if side == "BUY" else -quantity
    terms = Terms(
        order_type=_word(parts, "order_type") or "MKT",
        **{price: _number(parts, price) for price in _PRICES},
        tif=_word(parts, "tif") or "DAY",
        good_till=_moment(parts, "good_till"),
        good_after=_moment(parts, "good_after"),
        outside_rth=_switch(parts, "outside_rth") or False,
    )
    try:
        check_terms(terms, sec_type)
    except OrderDeniedError as error:
        raise ConfigError(error.message, code=error.code, errors={name: error.message}) from error
    return quantity, terms, bool(_switch(parts, "algo")), _word(parts, "urgency") or "Normal"


def read_wish(args: Mapping[str, Any]) -> Wish:
    """Return the single order that a command's arguments ask for.

    Raises: ConfigError (bad_order and the codes of ``order_types``).
    """
    contract = read_contract(args.get("contract"))
    quantity, terms, algo, urgency = read_terms(args.get("order"), sec_type=contract.secType)
    if quantity is None:
        raise _bad("quantity", "quantity is missing.")
    return Wish(contract, quantity, terms, algo, urgency)


def read_bracket(args: Mapping[str, Any]) -> tuple[Contract, list[Order]]:
    """Return contract and orders of a bracket: ``order`` the entry, ``take_profit`` and ``stop_loss`` its exits.

    Raises: ConfigError.
    """
    wish = read_wish(args)
    exits: dict[str, Terms | None] = {"take_profit": None, "stop_loss": None}
    for name, default in (("take_profit", "LMT"), ("stop_loss", "STP")):
        if args.get(name) is not None:
            given = _only(args[name], name, _ORDER | frozenset(_PRICES))
            _, exits[name], _, _ = read_terms({"order_type": default, **given}, name)
    try:
        orders = bracket_orders(
            wish.quantity,
            wish.terms,
            exits["take_profit"],
            exits["stop_loss"],
            algo=wish.algo,
            urgency=wish.urgency,
        )
    except OrderDeniedError as error:
        raise ConfigError(error.message, code=error.code, errors={"order": error.message}) from error
    return wish.contract, orders


def check_wish(kind: str, args: Mapping[str, Any]) -> None:
    """Refuse a request that can be told to be wrong without the engine.

    Raises: ConfigError.
    """
    if kind in ("place_order", "preview_order"):
        read_wish(args).order()
    elif kind == "place_bracket":
        read_bracket(args)
    elif kind == "roll_future":
        read_contract(args["contract"])
        read_contract(args["new_contract"])
