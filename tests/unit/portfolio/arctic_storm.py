"""A process of its own whose children book fills, project them and are killed in the middle; prints what is left.

Usage: python -m tests.unit.portfolio.arctic_storm KILLS SEED. Run by test_arctic_crash in a home of its own.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mats_site.settings")

import arcticdb  # noqa: F401 - loaded once; nothing of it is opened before the forks
import django
import pandas  # noqa: F401

django.setup()

from django.core.management import call_command  # noqa: E402 - models load after the setup
from django.db import connections  # noqa: E402
from django.utils import timezone  # noqa: E402

from portfolio.models import Execution, Movement  # noqa: E402
from portfolio.services import ensure_account, fold_batch  # noqa: E402
from tests.unit.portfolio.builders import ACCOUNT, fee, fill, owner_of  # noqa: E402

BATCH = 20


def write(seconds: float) -> None:
    """Book and project until killed by a timer of this process's own, which runs once a batch is through."""
    from portfolio.arctic.projections import Projector

    projector = Projector(batch_rows=50)
    killer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
    number = Execution.objects.count()
    while True:
        items = [report for n in range(number + 1, number + BATCH + 1) for report in (fill(n, 1), fee(n))]
        fold_batch(ACCOUNT, items, owner_of, timezone.now())
        number += BATCH
        projector.flush()
        if killer.ident is None:
            killer.start()


def kill_one(seconds: float) -> bool:
    """Run a writer and tell whether SIGKILL ended it."""
    connections.close_all()
    child = os.fork()
    if child == 0:
        try:
            write(seconds)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def finish(killed: int) -> None:
    """Catch up and say what both stores hold."""
    from portfolio.arctic.projections import Projector

    projector = Projector()
    projector.flush_all()
    rows = projector.writer.client.read(ACCOUNT, "fills/ALPHA").data
    report = {
        "killed": killed,
        "ledger": list(Movement.objects.order_by("id").values_list("id", flat=True)),
        "arctic": [int(seq) for seq in rows["seq"]],
        "increasing": bool(rows.index.is_monotonic_increasing and rows.index.is_unique),
    }
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    ensure_account(ACCOUNT, "USD")
    dice = random.Random(int(sys.argv[2]))
    finish(sum(kill_one(dice.uniform(0.02, 0.25)) for _ in range(int(sys.argv[1]))))
