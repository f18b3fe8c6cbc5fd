"""Count committed changes of the books in this process, so that caches know when they are old."""

from __future__ import annotations

import itertools

from django.db import transaction

_counter = itertools.count(1)
_version = 0


def books_version() -> int:
    """Return a number that grows with every committed change made by this process."""
    return _version


def _bump() -> None:
    global _version
    _version = next(_counter)


def books_changed() -> None:
    """Say that the running transaction changes the books; counted when it commits, forgotten when it rolls back."""
    transaction.on_commit(_bump)
