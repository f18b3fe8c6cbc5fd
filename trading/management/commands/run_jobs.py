"""``manage.py run_jobs``: the worker that does backtests, sweeps and ingests that pages and API ask for."""

from __future__ import annotations

import argparse
import signal
from typing import Any

from django.core.management.base import BaseCommand

from trading.job_run import run_job
from trading.worker import Worker


class Command(BaseCommand):
    """Do queued jobs."""

    help = (
        "Take queued jobs (backtests, sweeps, checks, ingests) one after the other, each in a process of its own with "
        "a limit of memory and time. «manage.py up» starts one. Ctrl-C asks the job under way to stop and ends."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--once", action="store_true", help="end when no job is queued")
        parser.add_argument("--job", type=int, help=argparse.SUPPRESS)  # of the worker's own children

    def handle(self, *args: Any, **options: Any) -> None:
        """Run."""
        if options["job"]:
            run_job(options["job"])
            return
        worker = Worker(lambda text: self.stdout.write(text))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: worker.stop())
        self.stdout.write(f"Worker {worker.name} waits for jobs. Ctrl-C stops it.")
        done = worker.run(once=options["once"])
        self.stdout.write(f"{done} jobs done.")
