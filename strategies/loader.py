"""Turn a file name into a strategy class, or into one clear sentence why not.

Owns: the registered folders, the way from a name to a file inside them, fresh imports, the choice of the class.
Leaves: who may save or start it (services, engine); strategy code is trusted code, but only from these folders.
Rule: a name never becomes a path unchecked; ``inspect_file`` reads without running, ``load_strategy_class`` runs.

Codes of LoadError: bad_name, outside_folder, unknown_package, not_found, ambiguous, symlink_outside, syntax_error,
import_failed, no_class, two_classes, bad_params.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from strategies.base import BaseStrategy
from strategies.exceptions import LoadError
from strategies.file_facts import FileFacts, read_facts
from strategies.legacy import adapt, is_old_style
from strategies.params import BaseParams, ReactiveParams, gate_defaults
from strategies.reactive import ReactiveStrategy

logger = logging.getLogger(__name__)

PACKAGE_DIR = Path(__file__).resolve().parent
PACKAGES = {f"strategies.{name}": PACKAGE_DIR / name for name in ("library", "examples", "production")}
SHIPPED_FOLDERS = tuple(PACKAGES.values())
FILENAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\.py", re.ASCII)
IMPERATIVE, REACTIVE = "imperative", "reactive"

StrategyClass = type[BaseStrategy] | type[ReactiveStrategy]

_serial = itertools.count(1)
_latest_module: dict[Path, str] = {}


@dataclass(frozen=True, slots=True)
class LoadedStrategy:
    """A file that was loaded: its class, its parameters, and exactly which bytes ran."""

    cls: StrategyClass
    module: ModuleType
    path: Path
    sha256: str
    params: dict[str, Any]
    params_model: type[BaseModel] | None
    kind: str


def registered_folders() -> list[Path]:
    """Return the folders that strategy files may come from: the shipped ones, then MATS_STRATEGY_PATH."""
    from django.conf import settings  # here, so that the loader serves tools without Django when given folders

    return [*SHIPPED_FOLDERS, *settings.MATS.strategy_path]


def list_strategy_files(folders: Sequence[Path] | None = None) -> list[Path]:
    """Return every loadable file of the folders, sorted by name; what cannot be a strategy file is left out."""
    found = []
    for folder in registered_folders() if folders is None else folders:
        if folder.is_dir():
            candidates = (path for path in folder.iterdir() if FILENAME.fullmatch(path.name))
            found += [path for path in candidates if not path.name.startswith("__") and _is_inside(path, folder)]
    return sorted(found, key=lambda path: path.name)


def find_file(filename: str, folders: Sequence[Path] | None = None) -> Path:
    """Return the one file of that name in the folders, with symlinks resolved.

    Raises: LoadError with code bad_name, outside_folder, not_found, ambiguous or symlink_outside.
    """
    _check_name(filename)
    known = list(registered_folders() if folders is None else folders)
    there = {folder.resolve(): folder / filename for folder in known if (folder / filename).exists()}
    if not there:
        where = ", ".join(str(folder) for folder in known)
        raise LoadError(f"{filename} does not exist in {where}.", code="not_found", filename=filename)
    if len(there) > 1:
        where = " and ".join(str(path) for path in there.values())
        raise LoadError(f"{filename} exists twice: {where}. Rename one.", code="ambiguous", filename=filename)
    [(folder, path)] = there.items()
    if not path.resolve().is_relative_to(folder):
        raise LoadError(
            f"{filename} is a link to a file outside {folder}; copy the file instead.",
            code="symlink_outside",
            filename=filename,
        )
    if not path.is_file():
        raise LoadError(f"{filename} is not a regular file.", code="not_found", filename=filename)
    return path.resolve()


def file_sha256(filename: str, folders: Sequence[Path] | None = None) -> str:
    """Return the SHA-256 of the file's bytes.

    Raises: LoadError as ``find_file``.
    """
    return hashlib.sha256(_read(find_file(filename, folders))).hexdigest()


def inspect_file(filename: str, folders: Sequence[Path] | None = None) -> FileFacts:
    """Return what reading the file tells; nothing of it runs.

    Raises: LoadError as ``find_file``, or syntax_error.
    """
    path = find_file(filename, folders)
    return read_facts(filename, path, _read(path))


def load_strategy_class(filename: str, folders: Sequence[Path] | None = None) -> LoadedStrategy:
    """Run the file as a fresh module and return its strategy class; later edits need another load.

    Raises: LoadError; the message names file and reason, the code the case.
    """
    module, path, sha256 = load_module(filename, folders)
    cls = _choose_class(filename, module)
    model = _params_model(filename, module, cls)
    kind = REACTIVE if issubclass(cls, ReactiveStrategy) else IMPERATIVE
    params = _params(filename, module, model)
    if kind == REACTIVE and model is None:
        params = {**gate_defaults(), **params}  # so that every world that runs the file draws the same lines
    return LoadedStrategy(cls, module, path, sha256, params, model, kind)


def load_module(filename: str, folders: Sequence[Path] | None = None) -> tuple[ModuleType, Path, str]:
    """Run the file as a fresh module, whatever it holds; return it, its path and the SHA-256 of what ran.

    Raises: LoadError as ``find_file``, or syntax_error, import_failed.
    """
    path = find_file(filename, folders)
    source = _read(path)
    sha256 = hashlib.sha256(source).hexdigest()
    return _run(filename, path, sha256, _compile(filename, path, source)), path, sha256


def load_strategy_module(name: str, folders: Sequence[Path] | None = None) -> LoadedStrategy:
    """Run the file that a module path names, as sessions write it: ``strategies.examples.simple_ma_cross``.

    A shipped file by its package and name; a file of the user's own folders by its name alone.
    Raises: LoadError (unknown_package) for any other package, and as ``load_strategy_class``.
    """
    package, _, last = name.rpartition(".")
    if package and package not in PACKAGES:
        known = ", ".join(PACKAGES)
        raise LoadError(
            f"{name} is in none of {known}. Files of your own folders are named without a package: {last}.",
            code="unknown_package",
        )
    return load_strategy_class(f"{last}.py", [PACKAGES[package]] if package else folders)


def expected_class_name(name: str) -> str:
    """Return what the class of a file is called by convention.

    >>> expected_class_name("simple_ma_cross"), expected_class_name("rsi_strategy")
    ('SimpleMaCrossStrategy', 'RsiStrategy')
    """
    words = "".join(word.capitalize() for word in name.split("_"))
    return words if words.endswith("Strategy") else f"{words}Strategy"


def _check_name(filename: str) -> None:
    name = str(filename)
    if "/" in name or "\\" in name or name in {"", ".", ".."} or Path(name.replace("\0", "")).is_absolute():
        raise LoadError(f"{name!r} is a path; give the name of a file inside a strategy folder.", code="outside_folder")
    if not FILENAME.fullmatch(name) or name.startswith("__"):
        raise LoadError(
            f"{name!r} is not a strategy file name; use letters, digits and underscores, ending in .py.",
            code="bad_name",
        )


def _is_inside(path: Path, folder: Path) -> bool:
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LoadError(f"{path.name} cannot be read: {error.strerror}.", code="not_found") from error


def _compile(filename: str, path: Path, source: bytes) -> CodeType:
    try:
        return compile(source, str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        raise LoadError(
            f"{filename}, line {error.lineno}: {error.msg}.", code="syntax_error", line=error.lineno
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:  # NUL bytes, absurd nesting
        raise LoadError(f"{filename} is not Python: {error}.", code="syntax_error") from error


def _run(filename: str, path: Path, sha256: str, code: CodeType) -> ModuleType:
    module = ModuleType(f"mats_strategy_{path.stem}_{sha256[:8]}_{next(_serial)}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and pydantic look their module up while classes are made
    try:
        exec(code, module.__dict__)  # noqa: S102 - running the registered file is what loading means
    except BaseException as error:  # user-code border: even sys.exit at import is only this file's error
        del sys.modules[module.__name__]
        logger.warning("file=%s import failed", filename, exc_info=True)
        raise LoadError(f"{filename} fails on import: {type(error).__name__}: {error}", code="import_failed") from error
    sys.modules.pop(_latest_module.get(path, ""), None)
    _latest_module[path] = module.__name__
    return module


def _choose_class(filename: str, module: ModuleType) -> StrategyClass:
    leaves = _own_classes(module)
    chosen = [cls for cls in leaves if cls.__name__.endswith("Strategy")] or leaves
    if len(chosen) > 1 and all(issubclass(cls, ReactiveStrategy) for cls in chosen):
        chosen = [cls for cls in chosen if cls.__name__ == expected_class_name(filename[:-3])] or chosen
    if not chosen and is_old_style(module):
        return adapt(module)
    if not chosen:
        raise LoadError(
            f"{filename} defines no class derived from BaseStrategy or ReactiveStrategy; classes it imports do not "
            "count. An old-style file needs a class Strategy with «async def run_strategy» and a function "
            "manage_strategy.",
            code="no_class",
        )
    if len(chosen) > 1:
        names = ", ".join(cls.__name__ for cls in chosen)
        raise LoadError(f"{filename} defines several strategies ({names}); keep one per file.", code="two_classes")
    [cls] = chosen
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise LoadError(f"{cls.__name__} in {filename} lacks {', '.join(missing)}.", code="no_class")
    return cls


def _own_classes(module: ModuleType) -> list[StrategyClass]:
    """Return the module's strategies from which no other of it derives, as they stand in it."""
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, (BaseStrategy, ReactiveStrategy))
        and value.__module__ == module.__name__
    ]
    bases = {base for cls in own for base in cls.__mro__[1:]}
    return list(dict.fromkeys(cls for cls in own if cls not in bases))


def _params_model(filename: str, module: ModuleType, cls: StrategyClass) -> type[BaseModel] | None:
    model = vars(module).get("Params")
    if issubclass(cls, ReactiveStrategy) and model in (None, BaseParams, ReactiveParams):
        plain = "PARAMS" in vars(module)
        return cls.params_model or (None if plain else ReactiveParams)
    if model is None or model is BaseParams:
        return None
    if not (isinstance(model, type) and issubclass(model, BaseParams)):
        raise LoadError(f"Params in {filename} must derive from strategies.params.BaseParams.", code="bad_params")
    return model


def _params(filename: str, module: ModuleType, model: type[BaseModel] | None) -> dict[str, Any]:
    if model is not None:
        return _defaults(model)
    params = vars(module).get("PARAMS", {})
    if not isinstance(params, dict) or not all(isinstance(name, str) for name in params):
        raise LoadError(f"PARAMS in {filename} must be a dict with text keys.", code="bad_params")
    try:
        copied: dict[str, Any] = json.loads(json.dumps(params, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise LoadError(f"PARAMS in {filename} cannot be stored as JSON: {error}.", code="bad_params") from error
    return copied


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    fields = model.model_fields.items()
    given = {name: field.get_default(call_default_factory=True, validated_data={}) for name, field in fields}
    known = {name: value for name, value in given.items() if value is not PydanticUndefined}
    dumped: dict[str, Any] = model.model_construct(**known).model_dump(mode="json", include=set(known))
    return dumped
