"""A page of NiceGUI with a button, in FastAPI."""

import fastapi
from nicegui import ui

app = fastapi.FastAPI()


@ui.page("/")
def index() -> None:
    label = ui.label("hello from nicegui")
    ui.button("press", on_click=lambda: label.set_text("pressed"))


ui.run_with(app, storage_secret="for this run only")
