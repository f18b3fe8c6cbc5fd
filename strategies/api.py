"""Routes of strategy metadata: save, activate, deactivate, and what the files say.

Leaves: lists with runtime state, details, start, stop and delete to ``trading.strategies_api``.
Rule: files are read, never run, by a GET.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Body, Path, Router

from strategies import loader, queries, services
from strategies.api_rules import caller
from strategies.models import Strategy
from strategies.schemas import (
    ActivatedOut,
    FileFactsOut,
    Filename,
    FileOut,
    OverrideIn,
    Page,
    SavedOut,
    StrategyOut,
    StrategySave,
    Symbol,
)

router = Router()


@router.get("/files", response=Page[FileOut])
def list_files(request: HttpRequest) -> dict[str, Any]:
    """List the strategy files of all registered folders."""
    items = [{"filename": path.name, "folder": path.parent.name} for path in loader.list_strategy_files()]
    return {"items": items, "next": None}


@router.get("/params-from-file", response=FileFactsOut)
def params_from_file(request: HttpRequest, filename: Filename) -> Any:
    """Tell a file's class and parameters by reading it; its code does not run."""
    return loader.inspect_file(filename)


@router.post("/save", response=SavedOut)
def save_strategy(request: HttpRequest, payload: StrategySave) -> dict[str, Any]:
    """Create a strategy, or change the fields that are given of an existing one."""
    known = Strategy.objects.filter(symbol=payload.symbol).exists()
    asked = caller(request)
    fields = payload.dict(exclude_unset=True, exclude={"override"})
    strategy = services.save_strategy(fields, asked.user, source=asked.source, override=payload.override)
    return {"strategy": strategy, "created": not known, "warnings": _warnings(strategy)}


def _warnings(strategy: Strategy) -> list[str]:
    total = queries.target_weight_total()
    texts = [f"Target weights add up to {total:f}, which is more than 1."] if total > 1 else []
    if strategy.load_error:
        texts.append(strategy.load_error)
    return [*texts, *strategy.notices]


@router.post("/{symbol}/activate", response=ActivatedOut)
def activate(request: HttpRequest, symbol: Path[Symbol], payload: Body[OverrideIn | None] = None) -> Strategy:
    """Mark a strategy to be started with «start all» and with the engine."""
    asked = caller(request)
    override = payload.override if payload is not None else ""
    return services.set_active(symbol, True, asked.user, source=asked.source, override=override)


@router.post("/{symbol}/deactivate", response=StrategyOut)
def deactivate(request: HttpRequest, symbol: Path[Symbol]) -> Strategy:
    """Leave a strategy out of «start all»; a running one goes on until it is stopped."""
    asked = caller(request)
    return services.set_active(symbol, False, asked.user, source=asked.source)
