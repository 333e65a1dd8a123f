"""What marimo_app.py serves."""

import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo

    mo.md("hello from marimo")
    return (mo,)


if __name__ == "__main__":
    app.run()
