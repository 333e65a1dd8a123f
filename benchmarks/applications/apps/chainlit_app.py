"""Chainlit mounted in FastAPI."""

from pathlib import Path

import fastapi
from chainlit.utils import mount_chainlit

app = fastapi.FastAPI()
mount_chainlit(app, str(Path(__file__).with_name("chainlit_chat.py")), path="/chat")
