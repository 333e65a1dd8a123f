"""Django under ASGI, with WebSockets through Channels.

asgireload project.asgi:application --app-dir examples/django_app
"""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

# Before consumers are imported: they may use models, which need the app registry.
http_application = get_asgi_application()

from project.consumers import EchoConsumer  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": http_application,
        "websocket": URLRouter([path("ws", EchoConsumer.as_asgi())]),
    }
)
