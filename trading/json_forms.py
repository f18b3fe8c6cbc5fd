"""From a pydantic model to a form and back: the schema as the form library wants it, and values both ways.

Owns: rewriting the schema, and what the library cannot edit: free objects are JSON in a text area, «all or a list» is
text. Leaves: validation, which pydantic alone does. Pure.
Rule: values are shown whole, with their defaults, because the library puts a default back where a field was emptied.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

_KIND = "x-kind"
_JSON, _WORDS, _OPTIONAL = "json", "words", "optional"
_KEPT = ("type", "title", "enum", "items", "properties", "required", "format", "minItems")
ALL = "all"

Node = dict[str, Any]


def form_schema(model: type[BaseModel]) -> Node:
    """Return the schema of a form for a model."""
    schema = model.model_json_schema()
    return _node(schema, schema.get("$defs", {}))


def to_form(schema: Mapping[str, Any], value: Any) -> Any:
    """Return a value as the form shows it."""
    kind = schema.get(_KIND)
    if kind == _JSON:
        return json.dumps(value if value is not None else {}, indent=1, ensure_ascii=False)
    if kind == _WORDS:
        return value if isinstance(value, str) else ", ".join(str(item) for item in value or ())
    if "properties" in schema:
        given = value if isinstance(value, Mapping) else {}
        return {name: to_form(part, given.get(name)) for name, part in schema["properties"].items()}
    if "items" in schema:
        return [to_form(schema["items"], item) for item in value or ()]
    if schema.get("type") == "string" and value is None:
        return ""
    if isinstance(value, str) and "number" in _types(schema):
        return _number(value)
    return value


def from_form(schema: Mapping[str, Any], value: Any) -> Any:
    """Return what a form sent as the model reads it; JSON that is none stays text, for the model to refuse."""
    kind = schema.get(_KIND)
    if kind == _JSON:
        return _parsed(value)
    if kind == _WORDS:
        words = [word.strip() for word in str(value or "").split(",") if word.strip()]
        return ALL if words in ([], [ALL]) else words
    if "properties" in schema:
        if not isinstance(value, Mapping):
            return value
        known = schema["properties"]
        given = {name: from_form(known[name], part) if name in known else part for name, part in value.items()}
        given = {name: part for name, part in given.items() if part is not None or _takes_none(known.get(name, {}))}
        return None if kind == _OPTIONAL and _is_empty(schema, given) else given
    if "items" in schema and isinstance(value, list):
        return [from_form(schema["items"], item) for item in value]
    return None if value == "" and "null" in _types(schema) else value


def _types(schema: Mapping[str, Any]) -> list[str]:
    types = schema.get("type", [])
    return [types] if isinstance(types, str) else list(types)


def _takes_none(schema: Mapping[str, Any]) -> bool:
    """Tell whether None is a value of a field, not a field that was left empty."""
    return "null" in _types(schema) or schema.get(_KIND) == _OPTIONAL


def _is_empty(schema: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    return all(given.get(name) in (None, "") for name in schema.get("required", ()))


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else {}
    except (ValueError, RecursionError):
        return value


def _number(text: str) -> float | int | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() else number


def _node(node: Mapping[str, Any], defs: Mapping[str, Any]) -> Node:
    resolved = {**defs[str(node["$ref"]).rpartition("/")[2]], **node} if "$ref" in node else dict(node)
    if "anyOf" in resolved:
        resolved = _chosen(resolved, defs)
    made = {name: resolved[name] for name in _KEPT if name in resolved}
    if "description" in resolved:
        made["helpText"] = resolved["description"]
    if _KIND in resolved:
        made[_KIND] = resolved[_KIND]
    if "properties" in resolved:
        made["properties"] = {name: _node(part, defs) for name, part in resolved["properties"].items()}
    elif resolved.get("type") == "object":
        made |= {"type": "string", "widget": "textarea", _KIND: _JSON}
    if "items" in resolved:
        made["items"] = _node(resolved["items"], defs)
    return made


def _chosen(node: Node, defs: Mapping[str, Any]) -> Node:
    """Make one of several types: the form would ask «Option 1 / Option 2» otherwise."""
    options = [
        {**defs[str(option["$ref"]).rpartition("/")[2]], **option} if "$ref" in option else option
        for option in node["anyOf"]
    ]
    real = [option for option in options if option.get("type") != "null"]
    is_nullable = len(real) < len(options)
    rest = {name: value for name, value in node.items() if name != "anyOf"}
    types = {option.get("type") for option in real}
    if "number" in types:  # a decimal: pydantic takes text, too
        return {**rest, "type": ["number", "null"] if is_nullable else "number"}
    if "array" in types:
        return {**rest, "type": "string", _KIND: _WORDS}
    first = {name: value for name, value in real[0].items() if name != "$ref"}
    if first.get("type") == "object":
        return {**first, **rest, **({_KIND: _OPTIONAL} if is_nullable else {})}
    return {**first, **rest, "type": [first.get("type"), "null"] if is_nullable else first.get("type")}
