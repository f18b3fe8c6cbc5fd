"""Order references: ``SYMBOL/<ulid>`` for orders of MATS, ``perm/<permId>`` for everybody else's. Pure.

What a statement brings may name neither; such an execution is an order of its own, ``exec/<family>``.

Rule: a reference names its owner, is unique, sorts by time and is used for one order only, ever.
"""

from __future__ import annotations

import re

from ulid import ULID

from portfolio.ledger.revisions import split_exec_id

_OURS = re.compile(r"^(?P<owner>[A-Za-z][A-Za-z0-9_]{0,31})/[0-9A-HJKMNP-TV-Z]{26}$")
_FOREIGN = "perm/"
NAMELESS = "exec/"


def new_ref(owner: str) -> str:
    """Return a reference never used before."""
    return f"{owner}/{ULID()}"


def new_oca_group(owner: str) -> str:
    """Return a name never used before for orders that cancel each other: IB forgets no group of the day."""
    return f"{owner}/oca/{ULID()}"


def is_ours(order_ref: str) -> bool:
    """Tell whether MATS gave the reference."""
    return _OURS.match(order_ref) is not None


def owner_named(order_ref: str) -> str | None:
    """Return the owner that one of our references names; None for others."""
    found = _OURS.match(order_ref)
    return found["owner"] if found else None


def row_ref(order_ref: str, perm_id: int) -> str | None:
    """Return the reference under which an order is kept; None for a foreign one that has no permId yet."""
    if is_ours(order_ref):
        return order_ref
    return foreign_ref(perm_id) if perm_id else None


def foreign_ref(perm_id: int) -> str:
    """Return the reference under which an order is kept that is known by its permId alone."""
    return f"{_FOREIGN}{perm_id}"


def nameless_ref(exec_id: str) -> str:
    """Return the reference under which an execution is kept whose order nobody names; corrections share it."""
    return f"{NAMELESS}{split_exec_id(exec_id)[0]}"[:64]
