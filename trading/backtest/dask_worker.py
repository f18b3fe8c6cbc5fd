"""What runs in the processes that try parameter sets for others: the bars once, then trial after trial.

Owns: a worker's runners by study. Leaves: a trial (``trials``), who hands them out (``pools``).
Rule: importing this module needs neither Django nor pandas, so that a bare worker can unpickle what it is sent; it
becomes a process of MATS when it is given its first study.
"""

from __future__ import annotations

import logging
import os
import pickle
import threading
from typing import TYPE_CHECKING, Any

from distributed import WorkerPlugin

if TYPE_CHECKING:
    from trading.backtest.trials import Figures, Kit, TrialRunner

_runners: dict[str, TrialRunner] = {}
_one_at_a_time = threading.Lock()  # strategies are not made for threads, which a worker may have several of


class StudyPlugin(WorkerPlugin):
    """Gives a worker a study's bars; also one that was started anew after a death."""

    def __init__(self, kit: Kit) -> None:
        self.key = kit.key
        self._packed = pickle.dumps(kit)

    def setup(self, worker: Any) -> None:
        """Lay the bars out."""
        become_ready()
        from trading.backtest.trials import TrialRunner

        _runners[self.key] = TrialRunner(pickle.loads(self._packed))  # noqa: S301 - from the study's own process

    def teardown(self, worker: Any) -> None:
        """Let go of them."""
        _runners.pop(self.key, None)


def become_ready() -> None:
    """Set Django up, as portfolio figures need it, and keep the strategies' own lines out of the log."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mats_site.settings")
    import django
    from django.apps import apps

    if not apps.ready:
        django.setup()
    from trading.backtest.trials import QUIET

    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)


def figures_of(key: str, packed: bytes) -> list[tuple[int, Figures]]:
    """Run trials, a pickled list of tasks, on a worker."""
    runner, tasks = _runners[key], pickle.loads(packed)  # noqa: S301 - from the study's own process
    with _one_at_a_time:
        return [(task.number, runner.figures(task)) for task in tasks]
