"""A Shiny application with one reactive output."""

from shiny import App, render, ui

page = ui.page_fluid(
    ui.h1("hello from shiny"),
    ui.input_slider("number", "number", 0, 10, 3),
    ui.output_text_verbatim("doubled"),
)


def server(input, output, session):  # noqa: A002 - the names are those of Shiny
    @render.text
    def doubled():
        return f"twice is {input.number() * 2}"


app = App(page, server)
