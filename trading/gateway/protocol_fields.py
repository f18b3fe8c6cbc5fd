"""One field at a time: read a client's texts as typed values, write ours as IB spells them.

Owns: the spelling of numbers, flags, times and the two «unset» sentinels; the cursor that notices fields left over.
Leaves: the order of fields in a message.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from zoneinfo import ZoneInfo

from .protocol_errors import DecodeError

UNSET_DOUBLE = "1.7976931348623157E308"
UNSET_INTEGER = "2147483647"
UNSET_DOUBLE_VALUE = float(UNSET_DOUBLE)
_UNSET_DECIMALS = frozenset({"", "1.7976931348623157E308", "1.7976931348623157e+308", "1.7976931348623157E+308"})
# IB names zones the old way; clients look the names up in the zone database, which knows both.
_IB_ZONES = {
    "America/New_York": "US/Eastern",
    "America/Chicago": "US/Central",
    "America/Los_Angeles": "US/Pacific",
    "Asia/Tokyo": "Japan",
}


class FieldReader:
    """A cursor over one message's fields; every read moves it, ``finish`` insists that nothing is left.

    Raises: DecodeError from every method when the field is missing or no such value.
    """

    __slots__ = ("_fields", "_position", "req_id")

    def __init__(self, fields: list[str]) -> None:
        self._fields = fields
        self._position = 1  # field 0 is the message id
        self.req_id = -1

    def text(self) -> str:
        """Return the next field as it is."""
        position = self._position
        if position >= len(self._fields):
            raise DecodeError(f"The message ends after field {position - 1}.", self.req_id)
        self._position = position + 1
        return self._fields[position]

    def skip(self) -> None:
        """Pass over a field that carries nothing (mostly a dead version number)."""
        self.text()

    def integer(self, default: int = 0) -> int:
        """Return the next field as an int; empty is ``default``."""
        text = self.text()
        if not text:
            return default
        try:
            if len(text) > 20:
                raise ValueError
            return int(text)
        except ValueError:
            raise self._bad("a whole number", text) from None

    def request_id(self) -> int:
        """Return the next field as the id under which errors of this message are reported."""
        self.req_id = self.integer()
        return self.req_id

    def number(self) -> float:
        """Return the next field as a float; empty is 0."""
        text = self.text()
        try:
            return float(text) if text else 0.0
        except ValueError:
            raise self._bad("a number", text) from None

    def decimal(self) -> Decimal | None:
        """Return the next field as a finite Decimal, or None when it is unset.

        Values beyond 28 digits or out of a price's reach are refused, so that no sum can overflow later.
        """
        text = self.text()
        if text in _UNSET_DECIMALS:
            return None
        try:
            value = Decimal(text)
        except InvalidOperation:
            raise self._bad("a number", text) from None
        if not value.is_finite() or len(text) > 64 or abs(value) > Decimal("1e15"):
            raise self._bad("a usable number", text)
        return value.quantize(Decimal("1e-10")).normalize() if -value.as_tuple().exponent > 10 else value  # type: ignore[operator]  # finite: the exponent is an int

    def flag(self) -> bool:
        """Return the next field as a bool; IB's clients write 0, 1, true, false or nothing."""
        text = self.text()
        if text in {"", "0", "false", "False"}:
            return False
        if text in {"1", "true", "True"}:
            return True
        raise self._bad("0 or 1", text)

    def switch(self) -> bool:
        """Return the next field as a bool that every client spells out; empty means that the fields have shifted."""
        text = self.text()
        if text not in {"0", "1", "true", "false", "True", "False"}:
            raise self._bad("0 or 1", text)
        return text in {"1", "true", "True"}

    def word(self) -> str:
        """Return the next field, which is empty or a word; a number means that the fields have shifted."""
        text = self.text()
        if text and not text[0].isalpha():
            raise self._bad("a word", text)
        return text

    def count(self, limit: int = 1000) -> int:
        """Return the next field as the length of a list that follows; it is never empty."""
        value = self.integer(default=-1)
        if not 0 <= value <= limit:
            raise DecodeError(f"A list announces {value} entries.", self.req_id)
        return value

    def texts(self, number: int) -> list[str]:
        """Return the next ``number`` fields."""
        return [self.text() for _ in range(number)]

    def finish(self) -> None:
        """Refuse the message when fields are left over: then at least one earlier field was read as another."""
        left = len(self._fields) - self._position
        if left:
            raise DecodeError(f"{left} fields are left over after the last expected one.", self.req_id)

    def _bad(self, wanted: str, text: str) -> DecodeError:
        return DecodeError(f"Field {self._position - 1} must be {wanted}, not {text[:40]!r}.", self.req_id)


def price(value: Decimal | None, unset: str = "0.0") -> str:
    """Spell a price: plain digits as given, ``unset`` where there is none."""
    return unset if value is None else format(value, "f")


@lru_cache(maxsize=4096)
def size(value: Decimal) -> str:
    """Spell a quantity without a useless fraction: ``100``, ``0.5``."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def whole(value: Decimal) -> str:
    """Spell a quantity for clients that read it as an int (below version 163)."""
    return str(int(value))


def flag(value: bool) -> str:
    """Spell a bool."""
    return "1" if value else "0"


def ib_zone(iana: str) -> str:
    """Return the zone name as TWS writes it."""
    return _IB_ZONES.get(iana, iana)


def stamp(moment: datetime, zone: str = "UTC") -> str:
    """Spell a moment as ``yyyymmdd hh:mm:ss ZONE``, the form that names its zone.

    UTC by default: local zones repeat an hour every autumn and a fill in that hour would move.
    """
    if zone == "UTC":
        return f"{moment.astimezone(UTC):%Y%m%d %H:%M:%S} UTC"
    return f"{moment.astimezone(ZoneInfo(zone)):%Y%m%d %H:%M:%S} {ib_zone(zone)}"


def dashed_utc(moment: datetime) -> str:
    """Spell a moment as ``yyyymmdd-hh:mm:ss``, which is UTC by definition."""
    return f"{moment.astimezone(UTC):%Y%m%d-%H:%M:%S}"


def parse_moment(text: str, zone: str = "UTC") -> datetime:
    """Read IB's time texts: ``yyyymmdd-hh:mm:ss`` (UTC), ``yyyymmdd hh:mm:ss [ZONE]`` (``zone`` when absent).

    Raises: ValueError when the text is none of these.
    """
    text = text.strip()
    if len(text) > 8 and text[8] == "-":
        return datetime.strptime(text, "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC)
    parts = text.split()
    if len(parts) == 1:
        return datetime.strptime(parts[0], "%Y%m%d").replace(tzinfo=ZoneInfo(zone))
    if len(parts) > 3:
        raise ValueError(f"{text!r} is not a time")
    clock = parts[1] if len(parts[1]) > 5 else f"{parts[1]}:00"
    try:
        tz = ZoneInfo(parts[2] if len(parts) == 3 else zone)
    except (KeyError, OSError) as error:  # an unknown zone name is the client's mistake, not ours
        raise ValueError(f"unknown time zone {parts[2]!r}") from error
    return datetime.strptime(f"{parts[0]} {clock}", "%Y%m%d %H:%M:%S").replace(tzinfo=tz)


def ascii7(text: str) -> str:
    """Escape what is not ASCII, as IB does from version 153 on; NUL can never travel inside a field."""
    return (
        text.replace("\0", " ").encode("unicode-escape").decode("ascii")
        if not text.isascii()
        else text.replace("\0", " ")
    )
