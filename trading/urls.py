"""Routes of the console's pages and of its live socket."""

from django.urls import path, re_path

from trading import views
from trading.consumers import LiveConsumer, UnknownPathConsumer

urlpatterns = [
    path("", views.dashboard, name="dashboard"),
    path("strategies/<str:symbol>/", views.strategy_page, name="strategy"),
    path("healthz", views.healthz, name="healthz"),
]

websocket_urlpatterns = [
    path("ws/live", LiveConsumer.as_asgi()),
    re_path(r"", UnknownPathConsumer.as_asgi()),
]
