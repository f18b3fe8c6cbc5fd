"""The backend: ``BEGIN IMMEDIATE`` and single writing statements wait for their turn, in order of arrival.

Owns: who of this process writes next. Leaves: everything else to Django; other processes to SQLite's own lock, at which
at most one thread of each process waits.
Rule: a turn ends with its transaction, however that ends. A turn that does not come within the connection's timeout is
«database is locked», as SQLite says it.
"""

from __future__ import annotations

import threading
from typing import Any

from django.db import OperationalError
from django.db.backends.sqlite3 import base

from mats_site.sqlite.turnstile import Turnstile

DEFAULT_TIMEOUT_S = 5.0  # of the sqlite3 module
_WRITES = ("INSERT", "UPDATE", "DELETE", "REPLACE")
_turnstiles: dict[str, Turnstile] = {}
_guard = threading.Lock()


def turnstile_of(name: str) -> Turnstile:
    """Return the queue of a database file."""
    with _guard:
        return _turnstiles.setdefault(name, Turnstile())


class _Cursor(base.SQLiteCursorWrapper):
    """A cursor whose single writing statements wait for their turn, like transactions."""

    owner: DatabaseWrapper

    def execute(self, query: str, params: Any = None) -> Any:
        if not self.owner.needs_turn(query):
            return super().execute(query, params)
        self.owner.take_turn()
        try:
            return super().execute(query, params)
        finally:
            self.owner.give_turn_back()

    def executemany(self, query: str, param_list: Any) -> Any:
        if not self.owner.needs_turn(query):
            return super().executemany(query, param_list)
        self.owner.take_turn()
        try:
            return super().executemany(query, param_list)
        finally:
            self.owner.give_turn_back()


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection that writes in turn."""

    _inside: Turnstile | None = None

    def create_cursor(self, name: str | None = None) -> Any:
        """Return a cursor that knows its connection."""

        def _make(raw: Any) -> _Cursor:
            cursor = _Cursor(raw)
            cursor.owner = self
            return cursor

        return self.connection.cursor(factory=_make)

    def needs_turn(self, query: str) -> bool:
        """Tell whether a statement writes by itself, outside of a transaction."""
        return (
            self._inside is None
            and not self.connection.in_transaction
            and query.lstrip()[:7].upper().startswith(_WRITES)
        )

    def take_turn(self) -> None:
        """Wait for the turn.

        Raises: OperationalError when it does not come in time.
        """
        turnstile = turnstile_of(str(self.settings_dict["NAME"]))
        if not turnstile.enter(float(self.settings_dict["OPTIONS"].get("timeout", DEFAULT_TIMEOUT_S))):
            raise OperationalError("database is locked")
        self._inside = turnstile

    def give_turn_back(self) -> None:
        """Let the next one write; nothing when this connection has no turn."""
        turnstile, self._inside = self._inside, None
        if turnstile is not None:
            turnstile.leave()

    def _start_transaction_under_autocommit(self) -> None:
        self.take_turn()
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]  # the stubs leave it out
        except BaseException:
            self.give_turn_back()
            raise

    def _commit(self) -> None:
        super()._commit()  # type: ignore[misc]  # the stubs leave it out
        self._end_turn()

    def _rollback(self) -> None:
        try:
            super()._rollback()  # type: ignore[misc]  # the stubs leave it out
        finally:
            self._end_turn()

    def _close(self) -> None:
        try:
            super()._close()  # type: ignore[misc]  # the stubs leave it out
        finally:
            self.give_turn_back()

    def _end_turn(self) -> None:
        if self.connection is None or not self.connection.in_transaction:
            self.give_turn_back()
