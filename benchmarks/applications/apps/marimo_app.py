"""A notebook of marimo, served as an application."""

from pathlib import Path

import marimo

NOTEBOOK = str(Path(__file__).with_name("marimo_notebook.py"))
app = marimo.create_asgi_app().with_app(path="/notebook", root=NOTEBOOK).build()
