"""Django with Channels: a page, and a chat through the channel layer that CHANNEL_LAYER names."""

import os

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path

IN_MEMORY = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
REDIS = {
    "BACKEND": "channels_redis.core.RedisChannelLayer",
    "CONFIG": {"hosts": [os.environ.get("REDIS_URL", "")]},
}

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for this run only",
    CHANNEL_LAYERS={"default": REDIS if "REDIS_URL" in os.environ else IN_MEMORY},
)
django.setup()


class Chat(AsyncWebsocketConsumer):
    async def connect(self):
        await self.channel_layer.group_add("chat", self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        await self.channel_layer.group_discard("chat", self.channel_name)

    async def receive(self, text_data):
        await self.channel_layer.group_send("chat", {"type": "say", "text": text_data})

    async def say(self, event):
        await self.send(text_data=event["text"])


async def index(request):
    return HttpResponse("hello from channels")


urlpatterns = [path("", index)]
app = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter([path("chat", Chat.as_asgi())]),
    }
)
