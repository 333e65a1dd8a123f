"""What is imported behind the application."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "code",
    [
        "import django.core.handlers.base",
        "from django.conf import settings; settings.configure(); import django.core.handlers.base",
    ],
    ids=["not configured", "without urls"],
)
def test_django_without_urls_is_no_reason_not_to_start(code):
    run = "from asgireload.frameworks import import_the_rest; import_the_rest()"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{run}"], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
