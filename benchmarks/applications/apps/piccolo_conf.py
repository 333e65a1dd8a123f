"""Where piccolo_admin_app.py has its tables; Piccolo looks for it under this name."""

from piccolo.conf.apps import AppRegistry
from piccolo.engine.sqlite import SQLiteEngine

DB = SQLiteEngine("data.db")
APP_REGISTRY = AppRegistry(
    ["piccolo.apps.user.piccolo_app", "piccolo_api.session_auth.piccolo_app"]
)
