"""Write numbers, times and icons in the console's pages; ``static/mats/format.js`` writes the same live.

Rule: values are plain decimal text, Decimal or None; what is unknown is shown as a dash, never as zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from django import template
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

UNKNOWN = "–"
MINUS = "−"
SPRITE = "vendor/tabler-icons-3.51.0/sprite.svg"


def _decimal(value: object) -> Decimal | None:
    if value is None or value == "":
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _group(number: Decimal, places: int, *, trim_to: int | None = None) -> str:
    # Browsers round halves away from zero; Python's formatting would round them to even.
    text = f"{abs(number).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP):,.{places}f}"
    if trim_to is not None and "." in text:
        whole, _, rest = text.partition(".")
        rest = rest.rstrip("0").ljust(trim_to, "0")
        text = f"{whole}.{rest}" if rest else whole
    is_zero = not any(character in "123456789" for character in text)
    return text if number >= 0 or is_zero else MINUS + text


@register.filter
def money(value: object) -> str:
    """Write an amount with thousands separators and two places."""
    number = _decimal(value)
    return UNKNOWN if number is None else _group(number, 2)


@register.filter
def whole(value: object) -> str:
    """Write an amount with thousands separators and no places."""
    number = _decimal(value)
    return UNKNOWN if number is None else _group(number, 0)


@register.filter
def signed(value: object) -> str:
    """Write a profit with its sign."""
    number = _decimal(value)
    if number is None:
        return UNKNOWN
    text = _group(number, 2)
    return f"+{text}" if number > 0 and text != "0.00" else text


@register.filter
def tone(value: object) -> str:
    """Name the colour class of a profit: gain, loss or none."""
    number = _decimal(value)
    if number is None or abs(number) < Decimal("0.005"):
        return ""
    return "gain" if number > 0 else "loss"


@register.filter
def quantity(value: object) -> str:
    """Write a quantity without needless places."""
    number = _decimal(value)
    return UNKNOWN if number is None else _group(number, 6, trim_to=0)


@register.filter
def price(value: object) -> str:
    """Write a price with two to five places."""
    number = _decimal(value)
    return UNKNOWN if number is None else _group(number, 5, trim_to=2)


@register.filter
def percent(value: object) -> str:
    """Write a fraction as per cent."""
    number = _decimal(value)
    return UNKNOWN if number is None else _group(number * 100, 1, trim_to=0) + " %"


@register.filter
def percent2(value: object) -> str:
    """Write a fraction as per cent with two places."""
    number = _decimal(value)
    return UNKNOWN if number is None else _group(number * 100, 2) + " %"


@register.filter
def sign(value: object) -> str:
    """Name the colour class of a fraction: gain, loss or none."""
    number = _decimal(value)
    if number is None or not number:
        return ""
    return "gain" if number > 0 else "loss"


@register.filter
def clock(value: object) -> str:
    """Write the UTC time of day of an ISO text or datetime."""
    if not value:
        return UNKNOWN
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment.astimezone(UTC).strftime("%H:%M:%S")


@register.filter
def moment(value: object) -> str:
    """Write day and UTC time of an ISO text or datetime, today's without the day."""
    if not value:
        return UNKNOWN
    at = (value if isinstance(value, datetime) else datetime.fromisoformat(str(value))).astimezone(UTC)
    today = datetime.now(UTC).date()
    return at.strftime("%H:%M:%S") if at.date() == today else at.strftime("%Y-%m-%d %H:%M")


@register.filter
def age(value: object) -> str:
    """Write how long ago a moment was."""
    if not value:
        return "never"
    at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    seconds = max(0, int((datetime.now(UTC) - at.astimezone(UTC)).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


@register.filter
def signed_quantity(value: object) -> str:
    """Write a change of a quantity with its sign."""
    number = _decimal(value)
    if number is None:
        return UNKNOWN
    text = _group(number, 6, trim_to=0)
    return f"+{text}" if number > 0 else text


@register.filter
def plain_number(value: object) -> str:
    """Write a number as one types it into a field: no grouping, no needless places, empty when unknown."""
    number = _decimal(value)
    return "" if number is None else f"{number.normalize():f}"


@register.filter
def words(value: object) -> str:
    """Write a machine's word for people: waiting_for_gateway is waiting for gateway."""
    return str(value or "").replace("_", " ")


@register.filter
def get(rows: Mapping[str, object], key: str) -> object:
    """Look up a key; empty when there is none."""
    return rows.get(key, "")


@register.simple_tag
def icon(name: str) -> SafeString:
    """Draw an icon of the sprite; decoration only, the text beside it speaks."""
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}#{}"></use></svg>', static(SPRITE), name)
