"""Django through its ASGI handler, one handler for each list of middleware."""

import asyncio
import hashlib
import importlib.util
import os

import common
import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(
    DEBUG=False,
    SECRET_KEY="not secret, and long enough to please the checks of Django itself",
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    STATIC_URL="/static/",
    STATIC_ROOT=common.DATA,
    DATA_UPLOAD_MAX_MEMORY_SIZE=64 * 1024 * 1024,
    LOGGING_CONFIG=None,
    MIDDLEWARE=[],
    USE_TZ=True,
    INSTALLED_APPS=[],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
)
django.setup(set_prefix=False)


def key_of(request):
    return request.GET.get("key", "none")


async def plain(request):
    return HttpResponse("hello", content_type="text/plain")


def plain_sync(request):
    return HttpResponse("hello", content_type="text/plain")


async def json(request):
    return JsonResponse(common.JSON)


def file(request):
    how = request.GET.get("how")
    name = common.FILE if how == "relative" else os.path.join(common.DATA, common.FILE)
    return FileResponse(open(name, "rb"))  # Django closes it


def streaming(make):
    async def view(request):
        return StreamingHttpResponse(make(key_of(request)), content_type="text/plain")

    return view


async def events(request):
    async def numbers(key):
        try:
            for number in range(80):
                yield f"event: number\ndata: {number}\n\n"
                await asyncio.sleep(0.05)
        finally:
            common.note(key, "ended")

    return StreamingHttpResponse(numbers(key_of(request)), content_type="text/event-stream")


async def fault(request):
    raise RuntimeError("a fault of the endpoint")


async def late_fault(request):
    await common.slow(key_of(request))
    raise RuntimeError("a late fault")


async def slow(request):
    await common.slow(key_of(request))
    return HttpResponse("slow", content_type="text/plain")


async def upload(request):
    body = request.body
    return JsonResponse({"bytes": len(body), "digest": hashlib.sha256(body).hexdigest()[:12]})


async def refuse(request):
    return HttpResponse("refused", status=401, content_type="text/plain")


async def context(request):
    return HttpResponse(common.swap_seen(request.GET["value"]), content_type="text/plain")


urlpatterns = [
    path("plain", plain),
    path("plain-sync", plain_sync),
    path("json", json),
    path("file", file),
    path("stream", streaming(lambda key: common.pieces())),
    path("busy", streaming(common.busy)),
    path("waiting", streaming(common.waiting)),
    path("ticking", streaming(common.ticking)),
    path("failing", streaming(common.failing)),
    path("events", events),
    path("fault", fault),
    path("late-fault", late_fault),
    path("slow", slow),
    path("upload", upload),
    path("refuse", refuse),
    path("context", context),
]


class Pass:
    """Middleware as classes of Django are, for synchronous code: Django runs it in a thread."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        response = self.get_response(request)
        response["x-passed"] = "on"
        return response


def make(*middleware):
    settings.MIDDLEWARE = [name for name in middleware if "." in name]
    return get_asgi_application()


def _installed(package, *middleware):
    return make(*middleware) if importlib.util.find_spec(package) else None


USUAL = (
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
)
STACKS = {
    "none": make(),
    "those of startproject": make(*USUAL),
    "GZipMiddleware": make("django.middleware.gzip.GZipMiddleware"),
    "ConditionalGetMiddleware": make("django.middleware.http.ConditionalGetMiddleware"),
    "synchronous middleware": make(f"{__name__}.Pass"),
    "whitenoise": _installed("whitenoise", "whitenoise.middleware.WhiteNoiseMiddleware"),
    "whitenoise, GZipMiddleware": _installed(
        "whitenoise",
        "django.middleware.gzip.GZipMiddleware",
        "whitenoise.middleware.WhiteNoiseMiddleware",
    ),
    "django-compression-middleware": _installed(
        "compression_middleware", "compression_middleware.middleware.CompressionMiddleware"
    ),
    **{
        name: common.optional(lambda layer=layer: common.wrap(make(), layer))
        for name, layer in {**common.BY_HAND, **common.packaged()}.items()
        if name in ("brotli-asgi", "hold-start", "sentry-sdk", "asgi-correlation-id")
    },
}
app = common.all_of(STACKS)
