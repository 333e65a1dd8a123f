"""Numbered events with Django's StreamingHttpResponse over an async generator."""

import asyncio

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

VERSION = 1

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a test",
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
)


async def numbers(number, has_ids):
    while True:
        number += 1
        event = f"data: {number} {VERSION}\n\n"
        yield f"id: {number}\n{event}" if has_ids else event
        await asyncio.sleep(0.02)


async def ids(request):
    number = int(request.headers.get("Last-Event-ID", 0))
    return StreamingHttpResponse(numbers(number, has_ids=True), content_type="text/event-stream")


async def plain(request):
    number = int(request.GET.get("after", 0))
    return StreamingHttpResponse(numbers(number, has_ids=False), content_type="text/event-stream")


async def version(request):
    return HttpResponse(str(VERSION))


urlpatterns = [path("", version), path("ids", ids), path("plain", plain)]
app = get_asgi_application()
