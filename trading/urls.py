"""Routes of the console's pages, of what they post, and of its live socket."""

from django.urls import path, re_path

from trading import views
from trading.consumers import LiveConsumer, UnknownPathConsumer
from trading.pages import (
    actions,
    adjustments,
    analytics,
    backtests,
    breaks,
    connections,
    data,
    execution,
    flex,
    margin,
    portfolio,
    records,
    risk,
    scanners,
    sessions,
)

urlpatterns = [
    path("", views.dashboard, name="dashboard"),
    path("strategies/<str:symbol>/", views.strategy_page, name="strategy"),
    path("strategies/<str:symbol>/margin/", margin.page, name="margin"),
    path("strategies/<str:symbol>/margin/preview/", margin.preview, name="margin_preview"),
    path("strategies/<str:symbol>/weight/", margin.set_weight, name="set_weight"),
    path("portfolio/", portfolio.page, name="portfolio"),
    path("portfolio/contracts/<int:con_id>/", portfolio.contract, name="contract"),
    path("execution/", execution.page, name="execution"),
    path("execution/preview/", execution.preview, name="order_preview"),
    path("execution/instruments/", execution.instruments, name="instruments"),
    path("breaks/", breaks.page, name="breaks"),
    path("adjustments/", adjustments.page, name="adjustments"),
    path("adjustments/preview/", adjustments.preview, name="adjustment_preview"),
    path("flex/", flex.page, name="flex"),
    path("connections/", connections.page, name="connections"),
    path("analytics/", analytics.page, name="analytics"),
    path("data/", data.page, name="data"),
    path("data/ingest/", data.ingest, name="data_ingest"),
    path("data/ingest/<int:job_id>/stop/", data.stop, name="data_stop"),
    path("data/delete/<str:library>/<path:symbol>/", data.delete, name="data_delete"),
    path("data/series/<str:library>/<path:symbol>/", data.series_page, name="data_series"),
    path("backtests/", backtests.page, name="backtests"),
    path("backtests/start/", backtests.start, name="backtest_start"),
    path("backtests/compare/", backtests.compare, name="backtest_compare"),
    path("backtests/jobs/<int:job_id>/stop/", backtests.stop, name="backtest_stop"),
    path("backtests/<int:run_id>/", backtests.run_page, name="backtest"),
    path("backtests/<int:run_id>/report/", backtests.report, name="backtest_report"),
    path("backtests/<int:run_id>/delete/", backtests.delete, name="backtest_delete"),
    path("risk/", risk.page, name="risk"),
    path("risk/banner/", risk.banner, name="risk_banner"),
    path("risk/do/<str:action>/", risk.act, name="risk_action"),
    path("sessions/", sessions.page, name="sessions"),
    path("sessions/<int:run_id>/", sessions.run_page, name="session_run"),
    path("scanners/", scanners.page, name="scanners"),
    path("alerts/", records.alerts, name="alerts"),
    path("alerts/strip/", records.strip, name="alerts_strip"),
    path("audit/", records.audit, name="audit"),
    path("actions/<str:action>/", actions.act, name="action"),
    path("healthz", views.healthz, name="healthz"),
]

websocket_urlpatterns = [
    path("ws/live", LiveConsumer.as_asgi()),
    re_path(r"", UnknownPathConsumer.as_asgi()),
]
