"""The applications in examples/: what starts each, and where its version stands."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

DIRECTORY = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Example:
    """`versioned` is the file that holds `VERSION = "1"`."""

    name: str
    app: str = "app:app"
    versioned: str = "app.py"

    def __str__(self):
        return self.name

    @property
    def directory(self):
        return DIRECTORY / self.name

    def copy_to(self, parent):
        """Copy the example under `parent`, to be edited there, and return its directory."""
        target = Path(parent) / self.name
        shutil.copytree(self.directory, target, ignore=shutil.ignore_patterns("__pycache__"))
        return target

    def release(self, directory, version):
        """Give the copy in `directory` another version, in one rename as a deploy does."""
        path = Path(directory) / self.versioned
        code = path.read_text()
        assert code.count('VERSION = "1"') == 1
        changed = path.with_suffix(".new")
        changed.write_text(code.replace('VERSION = "1"', f'VERSION = "{version}"'))
        os.replace(changed, path)


PLAIN = Example("plain")
DEMO = Example("demo")
EXAMPLES = [
    PLAIN,
    Example("fastapi_app"),
    Example("starlette_app"),
    Example("django_app", "project.asgi:application", "project/views.py"),
    Example("quart_app"),
    Example("litestar_app"),
    DEMO,
]
