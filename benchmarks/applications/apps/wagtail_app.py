"""A site of Wagtail, made by `wagtail start` in the working directory."""

import os
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    wagtail = Path(sys.executable).with_name("wagtail")
    subprocess.run([wagtail, "start", "site_of_wagtail", "."], check=True, timeout=300)
    subprocess.run([sys.executable, "manage.py", "migrate", "-v", "0"], check=True, timeout=300)
else:
    sys.path.insert(0, str(Path.cwd()))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_of_wagtail.settings.dev")
    from django.core.asgi import get_asgi_application

    app = get_asgi_application()
