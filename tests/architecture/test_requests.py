"""Every question to IB has a time limit: what ib_async starts is awaited through ``requests.ask`` or its kin."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMITED = {"ask", "ask_in_turn", "_ask", "_request", "wait_for"}
# where the limit stands elsewhere: connectAsync takes its own; the others are started inside of a limited call
EXCUSED = {
    ("trading/ib/connection.py", "connectAsync"),
    ("trading/ib/requests.py", "reqContractDetailsAsync"),
    ("trading/engine/broker_state.py", "reqAccountUpdatesAsync"),
    ("trading/brokers/preview.py", "whatIfOrderAsync"),
}


def loose(source: str) -> Iterator[str]:
    """Yield the names of ``…Async`` used outside of the arguments of a call that limits its time."""
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Attribute) and node.attr.endswith("Async") and _is_ib(node)):
            continue
        above: ast.AST | None = node
        while above is not None and not _limits(above):
            above = parents.get(above)
            if isinstance(above, ast.FunctionDef | ast.AsyncFunctionDef):
                above = None
        if above is None:
            yield node.attr


def _is_ib(node: ast.Attribute) -> bool:
    return node.attr.startswith(("req", "qualify", "connect", "whatIf", "accountSummary", "calculate", "replace"))


def _limits(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name in LIMITED


def test_every_request_is_limited() -> None:
    found = {
        (str(path.relative_to(ROOT)), name)
        for app in ("trading", "strategies")
        for path in (ROOT / app).rglob("*.py")
        if "gateway" not in path.parts
        for name in loose(path.read_text(encoding="utf-8"))
    }
    assert found == EXCUSED


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("async def f(ib): return await ib.reqPositionsAsync()", ["reqPositionsAsync"]),
        ("async def f(ib): return await ask(ib.reqPositionsAsync(), 'positions', timeout_s=1)", []),
        ("async def f(ib): return await ask_in_turn(ib, lambda: ib.reqPositionsAsync(), 'p', timeout_s=1)", []),
        ("async def f(ib):\n    request = ib.reqPositionsAsync()\n    return await request", ["reqPositionsAsync"]),
    ],
)
def test_the_check_sees_what_it_is_for(source: str, names: list[str]) -> None:
    assert list(loose(source)) == names
