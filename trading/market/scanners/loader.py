"""From a scanner's name to its class: shipped files, and the folder ``scanners`` inside each strategy folder.

Leaves: the way from a name to a file and running it (``strategies.loader``). Rule: as there, a name never becomes a
path unchecked; scanner code is trusted code, from these folders alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from strategies.exceptions import LoadError
from strategies.loader import list_strategy_files, load_module
from trading.market.scanners.base import BaseScanner

PACKAGE = "scanners"
SHIPPED = Path(__file__).resolve().parent / "library"


@dataclass(frozen=True, slots=True)
class LoadedScanner:
    """A file that was loaded: its class, and exactly which bytes ran."""

    name: str
    cls: type[BaseScanner]
    path: Path
    sha256: str


def scanner_folders() -> list[Path]:
    """Return the folders that scanner files may come from."""
    from django.conf import settings  # here, so that the shipped ones load without Django

    return [SHIPPED, *(folder / PACKAGE for folder in settings.MATS.strategy_path)]


def list_scanners() -> list[str]:
    """Return the names of all scanner files, sorted: ``scanners.gap``."""
    files = [path for path in list_strategy_files(scanner_folders()) if path.name != "__init__.py"]
    return sorted({f"{PACKAGE}.{path.stem}" for path in files})


def load_scanner(module: str) -> LoadedScanner:
    """Run the file that ``scanners.gap`` names and return its class.

    Raises: LoadError (unknown_package, no_class, two_classes, and as ``strategies.loader.find_file``).
    """
    package, _, name = module.rpartition(".")
    if package not in ("", PACKAGE):
        raise LoadError(
            f"{module} is no scanner: write {PACKAGE}.NAME, for NAME.py of the shipped ones or of the folder "
            f"«{PACKAGE}» in one of your strategy folders.",
            code="unknown_package",
        )
    ran, path, sha256 = load_module(f"{name}.py", scanner_folders())
    return LoadedScanner(name, _choose(f"{name}.py", ran), path, sha256)


def _choose(filename: str, module: ModuleType) -> type[BaseScanner]:
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, BaseScanner) and value.__module__ == module.__name__
    ]
    bases = {base for cls in own for base in cls.__mro__[1:]}
    leaves = [cls for cls in dict.fromkeys(own) if cls not in bases]
    if not leaves:
        raise LoadError(f"{filename} defines no class derived from BaseScanner.", code="no_class")
    if len(leaves) > 1:
        names = ", ".join(cls.__name__ for cls in leaves)
        raise LoadError(f"{filename} defines several scanners ({names}); keep one per file.", code="two_classes")
    [cls] = leaves
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise LoadError(f"{cls.__name__} in {filename} lacks {', '.join(missing)}.", code="no_class")
    return cls
