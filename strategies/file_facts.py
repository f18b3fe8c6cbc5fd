"""What a strategy file says about itself, read from its syntax tree; nothing of it runs. Pure.

Owns: class names, doc string, and the parameters as far as they are literals.
Leaves: the truth, which only loading tells (``loader.load_strategy_class``).
"""

from __future__ import annotations

import ast
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strategies.exceptions import LoadError

BASES = {"BaseStrategy": "imperative", "BarStrategy": "imperative", "ReactiveStrategy": "reactive"}
_UNREAD = object()


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Facts of one file; ``params`` holds literal defaults only, ``class_name`` is None when it is not clear."""

    filename: str
    path: Path
    sha256: str
    description: str
    class_name: str | None
    kind: str | None
    typed_params: bool
    params: dict[str, Any] = field(default_factory=dict)


def read_facts(filename: str, path: Path, source: bytes) -> FileFacts:
    """Return the facts of the source.

    Raises: LoadError (syntax_error) when it is not Python.
    """
    try:
        tree = ast.parse(source, filename=str(path))
    except SyntaxError as error:
        raise LoadError(
            f"{filename}, line {error.lineno}: {error.msg}.", code="syntax_error", line=error.lineno
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise LoadError(f"{filename} is not Python: {error}.", code="syntax_error") from error
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    name, kind = _strategy_class(classes)
    if kind is None and _is_old_style(tree):
        name, kind = "Strategy", "imperative"
    typed = next((node for node in classes if node.name == "Params"), None)
    return FileFacts(
        filename=filename,
        path=path,
        sha256=hashlib.sha256(source).hexdigest(),
        description=(ast.get_docstring(tree) or "").strip(),
        class_name=name,
        kind=kind,
        typed_params=typed is not None,
        params=_typed_literals(typed) if typed is not None else _dict_literals(tree),
    )


def _strategy_class(classes: list[ast.ClassDef]) -> tuple[str | None, str | None]:
    kinds: dict[str, str] = {}
    for node in classes:  # a base stands before what derives from it
        known = {**BASES, **kinds}
        kind = next((known[base] for base in map(_base_name, node.bases) if base in known), None)
        if kind is not None:
            kinds[node.name] = kind
    parents = {base for node in classes for base in map(_base_name, node.bases)}
    leaves = [name for name in kinds if name not in parents]
    chosen = [name for name in leaves if name.endswith("Strategy")] or leaves
    return (chosen[0], kinds[chosen[0]]) if len(chosen) == 1 else (None, None)


def _is_old_style(tree: ast.Module) -> bool:
    entries = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    old = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Strategy"), None)
    methods = old.body if old is not None else []
    runs = any(isinstance(node, ast.AsyncFunctionDef) and node.name == "run_strategy" for node in methods)
    return runs and "manage_strategy" in entries


def _base_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _typed_literals(node: ast.ClassDef) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            value = _field_default(statement.value)
            if value is not _UNREAD:
                found[statement.target.id] = value
    return found


def _field_default(node: ast.expr | None) -> Any:
    if isinstance(node, ast.Call):
        named = next((keyword.value for keyword in node.keywords if keyword.arg == "default"), None)
        node = named or (node.args[0] if node.args else None)
    return _literal(node)


def _dict_literals(tree: ast.Module) -> dict[str, Any]:
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
        named = any(isinstance(target, ast.Name) and target.id == "PARAMS" for target in targets)
        if named and isinstance(statement, (ast.Assign, ast.AnnAssign)) and isinstance(statement.value, ast.Dict):
            return _literal_items(statement.value)
    return {}


def _literal_items(node: ast.Dict) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in zip(node.keys, node.values, strict=True):
        if key is None and isinstance(value, ast.Dict):
            found |= _literal_items(value)
        elif isinstance(key, ast.Constant) and isinstance(key.value, str) and _literal(value) is not _UNREAD:
            found[key.value] = _literal(value)
    return found


def _literal(node: ast.expr | None) -> Any:
    if node is None:
        return _UNREAD
    try:
        value = ast.literal_eval(node)
        json.dumps(value, allow_nan=False)
        return value
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return _UNREAD
