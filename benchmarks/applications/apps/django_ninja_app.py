"""Django Ninja over a table, in one file."""

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.db import connection
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for this run only",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "data.db"}},
)
django.setup()

from ninja import NinjaAPI  # noqa: E402 - the settings come first

api = NinjaAPI()


@api.get("/items/{number}")
def item(request, number: int):
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM item WHERE id = %s", [number])
        return {"id": number, "name": cursor.fetchone()[0]}


urlpatterns = [path("api/", api.urls)]
app = get_asgi_application()

if __name__ == "__main__":
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)")
        rows = [(number, f"row {number}") for number in range(20)]
        cursor.executemany("INSERT INTO item VALUES (%s, %s)", rows)
