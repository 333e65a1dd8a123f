"""A Panel application within FastAPI, through bokeh-fastapi."""

import fastapi
import panel as pn
from panel.io.fastapi import add_application

app = fastapi.FastAPI()


@add_application("/panel", app=app, title="hello from panel", location=False)
def create() -> pn.Row:
    slider = pn.widgets.IntSlider(name="number", start=0, end=10, value=3)
    return pn.Row(slider.rx() * 2, slider)
