"""Piccolo Admin over SQLite."""

from piccolo.apps.user.tables import BaseUser
from piccolo.columns import Varchar
from piccolo.table import Table, create_db_tables_sync
from piccolo_admin.endpoints import create_admin
from piccolo_api.session_auth.tables import SessionsBase


class Guest(Table):
    name = Varchar()


app = create_admin([Guest], site_name="hello from piccolo")

if __name__ == "__main__":
    create_db_tables_sync(Guest, BaseUser, SessionsBase, if_not_exists=True)
    Guest.insert(*(Guest(name=f"guest {number}") for number in range(5))).run_sync()
    BaseUser.create_user_sync(
        username="admin", password="for this run", active=True, admin=True, superuser=True
    )
