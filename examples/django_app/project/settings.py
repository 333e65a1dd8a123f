"""Only what this example needs: no database, no templates, no sessions."""

import os

# A real project takes it from its environment and has no default.
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "for this example only")
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "project.urls"
ASGI_APPLICATION = "project.asgi.application"
INSTALLED_APPS = ["channels"]
MIDDLEWARE: list[str] = []
USE_TZ = True
