"""A Gradio interface with one function, mounted in FastAPI as its documentation has it for other servers."""

import fastapi
import gradio

with gradio.Blocks(analytics_enabled=False) as blocks:
    name, greeting = gradio.Textbox(), gradio.Textbox()
    gradio.Button().click(lambda text: f"hello {text}", name, greeting, api_name="greet")

app = gradio.mount_gradio_app(fastapi.FastAPI(), blocks, path="")
