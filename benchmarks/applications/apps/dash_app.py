"""Dash through a2wsgi."""

from a2wsgi import WSGIMiddleware
from dash import Dash, Input, Output, callback, dcc, html

dash = Dash(__name__)
dash.layout = html.Div([html.H1("hello from dash"), dcc.Input(id="name"), html.Div(id="greeting")])


@callback(Output("greeting", "children"), Input("name", "value"))
def greet(name):
    return f"hello {name}"


app = WSGIMiddleware(dash.server)
