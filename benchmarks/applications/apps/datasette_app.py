"""Datasette over a small database in the working directory."""

import sqlite3
from contextlib import closing

from datasette.app import Datasette

if __name__ == "__main__":
    with closing(sqlite3.connect("data.db")) as database, database:
        database.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, name TEXT)")
        names = [(f"row {number}",) for number in range(20)]
        database.executemany("INSERT INTO rows (name) VALUES (?)", names)
else:
    app = Datasette(["data.db"]).app()
