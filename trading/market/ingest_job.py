"""An ingest as the worker does it.

Owns: the worker's way in. Leaves: the ingest (``ingest``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trading.market.ingest import ShouldStop, run_ingest
from trading.market.ingest_progress import Progress


def run_ingest_job(args: Mapping[str, Any], progress: Progress, should_stop: ShouldStop, job_id: int) -> dict[str, Any]:
    """Do an ingest that was asked for on a page or over the API; what was stored before a stop stays.

    Shape and errors: as ``run_ingest``.
    """
    return run_ingest(args, progress, should_stop)
