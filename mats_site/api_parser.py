"""Strict JSON: what no database column can hold, and what is too large, is refused where it comes in."""

from __future__ import annotations

import json
from typing import Any, NoReturn, cast

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest
from ninja.parser import Parser

MAX_BODY_BYTES = 1_048_576
MAX_DEPTH = 32


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON.")


def _check(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"It is nested more than {MAX_DEPTH} deep.")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, float) and value in (float("inf"), float("-inf")):
        raise ValueError("It holds a number that is too large.")
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            _check_text(name)
            _check(item, depth + 1)


def _check_text(text: str) -> None:
    if "\x00" in text:
        raise ValueError("It holds a NUL character.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("It holds half of a surrogate pair.") from None


class StrictParser(Parser):
    """Ninja's parser without NaN, Infinity, NUL, lone surrogates and bottomless nesting."""

    def parse_body(self, request: HttpRequest) -> dict[str, Any]:
        """Return the parsed body.

        Raises: ValueError, which ninja turns into status 400; RequestDataTooBig above the limit.
        """
        if len(request.body) > MAX_BODY_BYTES:  # Django itself looks at the declared length alone
            raise RequestDataTooBig
        try:
            parsed = json.loads(request.body, parse_constant=_refuse_constant)
        except RecursionError:
            raise ValueError(f"It is nested more than {MAX_DEPTH} deep.") from None
        _check(parsed, 0)
        return cast(dict[str, Any], parsed)
