"""The house's own rules, checked on the tree: sizes, words that must not stand in it, documents that match the code."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import get_commands

ROOT = Path(__file__).resolve().parents[2]
APPS = ("mats_site", "trading", "portfolio", "strategies")
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60


def sources() -> list[Path]:
    return [path for app in APPS for path in (ROOT / app).rglob("*.py") if "migrations" not in path.parts]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_no_file_outgrows_its_name() -> None:
    large = {str(p.relative_to(ROOT)): n for p in sources() if (n := len(p.read_text().splitlines())) > MAX_FILE_LINES}
    assert not large


def test_no_function_outgrows_a_screen() -> None:
    large = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in sources()
        for node in functions(path)
        if (node.end_lineno or node.lineno) - node.lineno + 1 > MAX_FUNCTION_LINES
    ]
    assert not large


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sources()
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_broad_except_logs_or_reports_and_never_swallows() -> None:
    swallowed = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and _is_broad(node) and _does_nothing(node):
                swallowed.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not swallowed


def _is_broad(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or (
        isinstance(handler.type, ast.Name) and handler.type.id in {"Exception", "BaseException"}
    )


def _does_nothing(handler: ast.ExceptHandler) -> bool:
    return all(isinstance(statement, ast.Pass | ast.Continue) for statement in handler.body)


def test_every_environment_variable_is_documented() -> None:
    code = (ROOT / "mats_site" / "env.py").read_text()
    names = set(re.findall(r'"(MATS_[A-Z_]+|DATABASE_URL)"', code))
    documented = set(re.findall(r"^\| `([A-Z_]+)`", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE))
    assert names == documented


def our_commands() -> list[str]:
    return sorted(name for name, app in get_commands().items() if str(app) in APPS)


@pytest.mark.parametrize("command", our_commands())
def test_every_command_is_documented(command: str) -> None:
    pages = "\n".join(path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    assert f"`{command}" in pages or f"manage.py {command}" in pages


def test_repository_names_no_machine_path_and_no_download_address() -> None:
    pattern = r"(^|[^.[:alnum:]])/(work|farm|tmp/bash_jobs)/|https?://[a-z.]*(py[p]i|python[h]osted|npm[j]s)[.]"
    found = subprocess.run(
        ["git", "grep", "-nIE", pattern, "--", ":!tests/architecture"], cwd=ROOT, capture_output=True, text=True
    )
    assert not found.stdout


def test_every_adr_is_numbered_once_and_listed() -> None:
    pages = sorted(path.name for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    numbers = [name[:4] for name in pages]
    assert len(numbers) == len(set(numbers))
    index = (ROOT / "docs" / "adr" / "README.md").read_text()
    assert all(name in index for name in pages)
