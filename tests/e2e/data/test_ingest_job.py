"""An ingest as people ask for it: the page's job, done by the worker's own process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from portfolio.arctic.client import ArcticClient
from portfolio.arctic.market_data import read_bars
from tests.e2e.data.conftest import Home
from tests.e2e.engine.harness import until
from tests.support.database import ledger_url
from trading import work_services
from trading.work_models import Job, JobKind, JobState

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]
ROOT = Path(__file__).resolve().parents[3]
DAYS = "Date,Open,High,Low,Close,Volume\n2024-01-02,10,11,9,10,100\n2024-01-03,10,11,9,10.5,100\n"


def test_worker_does_what_the_page_asked_for(store: ArcticClient, home: Home) -> None:
    folder = settings.MATS.mats_home / "import"
    folder.mkdir()
    (folder / "XYZ.csv").write_text(DAYS)
    job = work_services.ask_for(JobKind.INGEST, {"source": "file", "file": "XYZ.csv"}, actor="operator", source="page")
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "mats_site.settings",
        "DATABASE_URL": ledger_url(),
        "MATS_HOME": str(settings.MATS.mats_home),
        "MATS_ARCTIC_URI": settings.MATS.arctic_uri,
    }
    worker = subprocess.Popen([sys.executable, "manage.py", "run_jobs"], cwd=ROOT, env=environment)
    try:
        under_way = (JobState.QUEUED, JobState.RUNNING)
        until(lambda: not Job.objects.filter(pk=job.pk, state__in=under_way).exists(), 150.0, "the job's end")
    finally:
        worker.terminate()
        worker.wait(30)
    row = Job.objects.get(pk=job.pk)
    assert (row.state, row.error) == (JobState.DONE, "")
    assert row.result["series"][0]["new"] == 2
    assert list(read_bars(store, "XYZ", "1_day")["close"]) == [10.0, 10.5]
