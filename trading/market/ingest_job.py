"""An ingest as a job of the worker. Owns: fitting ``run_ingest`` to what every job is called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trading.market.ingest import run_ingest


def run_ingest_job(
    args: Mapping[str, Any], progress: Callable[[float, str], None], should_stop: Callable[[], bool], job_id: int
) -> dict[str, Any]:
    """Do one ingest; ``run_ingest`` says what it returns."""
    return run_ingest(args, progress, should_stop)
