"""ASGI entry point: HTTP by Django, websockets by Channels behind origin check and session login."""

import os
from typing import Any

from django.core.asgi import get_asgi_application

from mats_site.startup import require_settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mats_site.settings")
require_settings()


def _websockets() -> Any:
    # Consumers import models, so the apps must be loaded first.
    from channels.auth import AuthMiddlewareStack
    from channels.routing import URLRouter
    from channels.security.websocket import AllowedHostsOriginValidator

    from trading.urls import websocket_urlpatterns

    return AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns)))


def _application() -> Any:
    from channels.routing import ProtocolTypeRouter

    http = get_asgi_application()
    return ProtocolTypeRouter({"http": http, "websocket": _websockets()})


application = _application()
