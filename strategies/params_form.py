"""From a strategy's typed parameters to a form: the JSON schema as the form library wants it.

Owns: the rewriting of pydantic's schema, the order of the fields, what is left out because the row decides it.
Leaves: validation, which pydantic alone does (``params.validate_params``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from strategies.params import ROW_FIELDS, BaseParams, ReactiveParams, gate_defaults

_FIRST = ("universe", "symbols")
_INHERITED = (*gate_defaults(), *BaseParams.model_fields, "symbols")
_KEPT = ("$defs", "properties", "type")


def form_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of the parameters form: own fields first, inherited ones after, row fields left out.

    A reactive strategy names its symbols, so the universe is left out as well.
    """
    schema = _rewritten(model.model_json_schema(by_alias=False))
    properties: dict[str, Any] = schema["properties"]
    known = _INHERITED if issubclass(model, ReactiveParams) else tuple(BaseParams.model_fields)
    first = [name for name in _FIRST if name != "universe" or not issubclass(model, ReactiveParams)]
    own = [name for name in properties if name not in known]
    inherited = [name for name in known if name not in (*_FIRST, *ROW_FIELDS)]
    order = [name for name in (*first, *own, *inherited) if name in properties]
    kept = {name: value for name, value in schema.items() if name in _KEPT}
    shown = {name: _shown(properties[name]) for name in order}
    return {**kept, "properties": shown, "additionalProperties": False}


def emptied(schema: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the submitted values with None where an optional field was left empty: the form sends an empty text."""
    nullable = {name for name, part in schema["properties"].items() if "null" in part.get("type", ())}
    return {name: None if value == "" and name in nullable else value for name, value in values.items()}


def _shown(part: dict[str, Any]) -> dict[str, Any]:
    # The form library would put the default back where the operator emptied the field; values are always given whole.
    kept = {name: value for name, value in part.items() if name not in ("default", "description")}
    return {**kept, "helpText": part["description"]} if "description" in part else kept


def form_values(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters without those that the row's own fields decide."""
    return {name: value for name, value in params.items() if name not in ROW_FIELDS}


def _rewritten(node: Any) -> Any:
    if isinstance(node, list):
        return [_rewritten(item) for item in node]
    if not isinstance(node, dict):
        return node
    return _without_null({name: _rewritten(value) for name, value in node.items()})


def _without_null(node: dict[str, Any]) -> dict[str, Any]:
    """Turn pydantic's ``anyOf: [X, null]`` into a nullable X: the form would show «Option 1 / Option 2»."""
    options = node.get("anyOf")
    if not isinstance(options, list):
        return node
    real = [option for option in options if option.get("type") != "null"]
    if len(real) != 1 or len(real) == len(options) or "type" not in real[0]:
        return node
    rest = {name: value for name, value in node.items() if name != "anyOf"}
    return {**real[0], **rest, "type": [real[0]["type"], "null"]}
