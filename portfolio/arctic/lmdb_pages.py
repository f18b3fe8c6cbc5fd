"""Read the page structure of an LMDB file without mapping it: does everything that it refers to lie inside the file?

Why the tree is walked: LMDB counts a page as used once a transaction has taken it, and never writes one that the same
transaction gave back; a healthy file may therefore end some pages before its last used one. Only a page that is
referred to and lies past the end says that the file was cut.
Source: the layout is that of LMDB 0.9 (mdb.c: MDB_meta, MDB_page, MDB_node, MDB_db).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

PAGE = 4096
_MAGIC = 0xBEEFC0DE
_HEAD = 16  # of every page
_META = struct.Struct("<II QQ 40xQ 40xQ QQ")  # magic, version, address, map size, two roots, last page, transaction
_PAGE_HEAD = struct.Struct("<Q 2x H H H")  # page number, flags, end of the node list, start of the nodes
_NODE = struct.Struct("<HHHH")  # size low and high (in a branch: child), flags, key size
_NO_ROOT = 2**64 - 1
_BRANCH, _LEAF = 0x01, 0x02
_OVERFLOW, _SUBTREE = 0x01, 0x02  # of a leaf's node
_ROOT_IN_SUBTREE = 40


@dataclass(frozen=True, slots=True)
class Meta:
    """One of the two records at the head of the file; the one of the later transaction holds."""

    free_root: int
    main_root: int
    last_page: int
    transaction: int


def read_meta(page: bytes) -> Meta | None:
    """Return the record of a meta page, None when it is none."""
    if len(page) < _HEAD + _META.size:
        return None
    magic, _, _, _, free_root, main_root, last_page, transaction = _META.unpack_from(page, _HEAD)
    return Meta(free_root, main_root, last_page, transaction) if magic == _MAGIC else None


def newest_meta(handle: int) -> Meta | None:
    """Return the record that holds, None when the file has none."""
    found = [read_meta(os.pread(handle, PAGE, at)) for at in (0, PAGE)]
    return max((meta for meta in found if meta is not None), key=lambda meta: meta.transaction, default=None)


def last_referred_page(handle: int, meta: Meta) -> int:
    """Return the highest page that the trees of a transaction refer to.

    Raises: ValueError when a page is not what it should be: cut off, overwritten, or changed while it was read.
    """
    highest, waiting = 1, [root for root in (meta.free_root, meta.main_root) if root != _NO_ROOT]
    while waiting:
        number = waiting.pop()
        highest = max(highest, number)
        children, last = _refers_to(os.pread(handle, PAGE, number * PAGE), number)
        waiting += children
        highest = max(highest, last)
    return highest


def _refers_to(page: bytes, number: int) -> tuple[list[int], int]:
    """Return the pages below one page, and the last page of the values that it refers to."""
    if len(page) < PAGE:
        raise ValueError(f"page {number} lies past the end")
    said, flags, lower, _ = _PAGE_HEAD.unpack_from(page)
    if said != number or not flags & (_BRANCH | _LEAF) or not _HEAD <= lower <= PAGE:
        raise ValueError(f"page {number} is no part of a tree")
    places = struct.unpack_from(f"<{(lower - _HEAD) // 2}H", page, _HEAD)
    if flags & _BRANCH:
        return [_child(page, place) for place in places], 0
    children, last = [], 0
    for place in places:
        low, high, kind, key_size = _NODE.unpack_from(page, place)
        data = place + _NODE.size + key_size
        if kind & _SUBTREE:
            root = int.from_bytes(page[data + _ROOT_IN_SUBTREE : data + _ROOT_IN_SUBTREE + 8], "little")
            children += [root] if root != _NO_ROOT else []
        elif kind & _OVERFLOW:
            first = int.from_bytes(page[data : data + 8], "little")
            last = max(last, first + (_HEAD + (low | high << 16) - 1) // PAGE)
    return children, last


def _child(page: bytes, place: int) -> int:
    low, high, above, _ = _NODE.unpack_from(page, place)
    return int(low | high << 16 | above << 32)
