"""The applications that are edited, as files. Pure.

Each answers every request with the version that stands in one of its modules, which is the file that is
edited: in the packages a leaf, which one other module imports.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

VERSION = re.compile(rb"v(\d{4})\b")
PARTS = ("orders", "carts", "stock", "users", "reviews", "coupons", "deliveries", "returns")


@dataclass(frozen=True, slots=True)
class Project:
    name: str
    title: str
    app: str
    """Its import string."""
    edited: str
    """The file that is edited, below the project's directory."""
    files: dict[str, str]
    """All others."""
    text: Callable[[int], str]
    """The edited file, given the version it shall answer with."""


def versioned(number: int) -> str:
    """Return the constant, and a comment that gives each version another size.

    Python takes bytecode for fresh that was made of a source of the same size in the same second. That is
    measured by itself (`tiny_same_size`) and would otherwise decide about most edits.
    """
    return f'VERSION = "v{number:04}"\n# {"." * (number % 97)}\n'


def tiny_text(number: int) -> str:
    return versioned(number) + TINY


def tiny_same_size(number: int) -> str:
    return f'VERSION = "v{number:04}"\n' + TINY


TINY = """

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    if scope["type"] == "http":
        body = VERSION.encode()
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
"""

_DATABASE = """from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, sessionmaker

engine = create_engine("sqlite://")
Session = sessionmaker(engine)


class Base(DeclarativeBase):
    pass
"""

_MODELS = """from pydantic import BaseModel
from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shop.database import Base


class {class_name}(Base):
    __tablename__ = "{part}"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    note: Mapped[str | None]
    lines: Mapped[list["{class_name}Line"]] = relationship(back_populates="owner")


class {class_name}Line(Base):
    __tablename__ = "{part}_lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int]
    owner_id: Mapped[int] = mapped_column(ForeignKey("{part}.id"))
    owner: Mapped[{class_name}] = relationship(back_populates="lines")


class {class_name}In(BaseModel):
    name: str
    note: str | None = None


class {class_name}Out({class_name}In):
    id: int
"""

_ROUTES = """from fastapi import APIRouter
from sqlalchemy import select

from shop.database import Session
from shop.{part}_models import {class_name}, {class_name}In, {class_name}Out

router = APIRouter(prefix="/{part}")


@router.get("/")
def list_{part}() -> list[{class_name}Out]:
    with Session() as session:
        rows = session.scalars(select({class_name})).all()
        return [{class_name}Out(id=row.id, name=row.name, note=row.note) for row in rows]


@router.post("/")
def add_{part}(item: {class_name}In) -> {class_name}Out:
    with Session() as session:
        row = {class_name}(name=item.name, note=item.note)
        session.add(row)
        session.commit()
        return {class_name}Out(id=row.id, name=row.name, note=row.note)
"""

_FRONT = """from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from shop.version import VERSION

router = APIRouter()


@router.get("/")
async def front() -> PlainTextResponse:
    return PlainTextResponse(VERSION)
"""

_ANALYSIS = """import django
import numpy
import pandas
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.admin"]
)
django.setup()

import django.contrib.admin.options
import django.core.management
import django.db.models
import django.forms
import django.template.loader
import django.test.client
import django.views.generic

TABLE = pandas.DataFrame({"a": numpy.arange(100)})
"""


def package(*, is_heavy: bool) -> dict[str, str]:
    """Return FastAPI with SQLAlchemy in 20 modules, and one that imports much more if it is to be heavy."""
    files = {"shop/__init__.py": "", "shop/database.py": _DATABASE, "shop/front.py": _FRONT}
    for part in PARTS:
        names = {"part": part, "class_name": part.rstrip("s").title()}
        files[f"shop/{part}_models.py"] = _MODELS.format(**names)
        files[f"shop/{part}_routes.py"] = _ROUTES.format(**names)
    if is_heavy:
        files["shop/analysis.py"] = _ANALYSIS
    routes = [f"{part}_routes" for part in PARTS]
    files["main.py"] = (
        "from fastapi import FastAPI\n\n"
        + ("import shop.analysis\n" if is_heavy else "")
        + f"from shop import front, {', '.join(routes)}\n\napp = FastAPI()\n"
        + f"for part in (front, {', '.join(routes)}):\n    app.include_router(part.router)\n"
    )
    # The edited module is the twentieth of the package; main.py stands beside it.
    return files


PROJECTS: tuple[Project, ...] = (
    Project("tiny", "one file", "main:app", "main.py", {}, tiny_text),
    Project(
        "package",
        "FastAPI and SQLAlchemy, a package of 20 modules",
        "main:app",
        "shop/version.py",
        package(is_heavy=False),
        versioned,
    ),
    Project(
        "heavy",
        "the same with pandas, numpy and Django",
        "main:app",
        "shop/version.py",
        package(is_heavy=True),
        versioned,
    ),
)


def choose(names: str) -> list[Project]:
    """Return the projects of a comma-separated list. Raise ValueError, naming what there is."""
    known = {project.name: project for project in PROJECTS}
    unknown = [name for name in names.split(",") if name not in known]
    if unknown:
        raise ValueError(f"no project is called {unknown[0]!r}; there are: {', '.join(known)}")
    return [known[name] for name in names.split(",")]
