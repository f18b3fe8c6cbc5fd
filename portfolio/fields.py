"""Exact decimals in every database.

Owns: how money and quantities are stored. SQLite has no decimal type: its NUMERIC affinity turns a value into a double
and Django reads it back with 15 digits, so that a cash balance of a million with ten decimals would not survive. On
SQLite these columns are therefore text with a fixed number of decimals; elsewhere they are NUMERIC.
Rule: compare for equality in SQL, sort and sum in Python: text sorts as text. A value is spelled alike wherever it goes
in, so that ``filter(amount=0)`` finds what was written as ``-0.00``; greater and smaller are refused on SQLite.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import NotSupportedError, models
from django.db.models import lookups

from portfolio.ledger.money import ZERO

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

Set = TypeVar("Set", contravariant=True)
Get = TypeVar("Get", covariant=True)

if TYPE_CHECKING:

    class _DecimalField(models.DecimalField[Set, Get]):
        """Generic for the type checker only: Django's fields take no parameters at run time."""
else:

    class _DecimalField(models.DecimalField):
        def __class_getitem__(cls, _: object) -> type:
            return cls


class ExactDecimalField(_DecimalField[Set, Get]):
    """A decimal that every database gives back digit for digit."""

    def get_internal_type(self) -> str:
        """Name a type unknown to the backends, so that SQLite's float converter stays away."""
        return "ExactDecimalField"

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        """Return ``text`` on SQLite and NUMERIC elsewhere."""
        if connection.vendor == "sqlite":
            return "text"
        return f"numeric({self.max_digits}, {self.decimal_places})"

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        """Spell a number on SQLite as ``portfolio.bulk`` does, for writing and for looking up."""
        number = super().get_db_prep_value(value, connection, prepared)
        if connection.vendor != "sqlite" or not isinstance(number, Decimal):
            return number
        return f"{number or ZERO:.{self.decimal_places}f}"

    def from_db_value(self, value: object, expression: object, connection: object) -> Decimal | None:
        """Read text, or the float of an SQL aggregate, as Decimal."""
        if value is None or isinstance(value, Decimal):
            return value
        return Decimal(str(value))


class _NumbersOnly:
    """Refuses a lookup that would compare text: "9" is greater than "10" there."""

    def as_sqlite(self, compiler: Any, connection: BaseDatabaseWrapper, **_: Any) -> Any:
        """Raise: SQLite keeps these columns as text."""
        raise NotSupportedError("SQLite keeps exact decimals as text: compare their size in Python.")


class _Greater(_NumbersOnly, lookups.GreaterThan):
    pass


class _GreaterOrEqual(_NumbersOnly, lookups.GreaterThanOrEqual):
    pass


class _Less(_NumbersOnly, lookups.LessThan):
    pass


class _LessOrEqual(_NumbersOnly, lookups.LessThanOrEqual):
    pass


class _Range(_NumbersOnly, lookups.Range):
    pass


for _lookup in (_Greater, _GreaterOrEqual, _Less, _LessOrEqual, _Range):
    ExactDecimalField.register_lookup(_lookup)
