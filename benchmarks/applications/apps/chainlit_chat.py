"""What chainlit_app.py serves."""

import chainlit


@chainlit.on_message
async def answer(message: chainlit.Message):
    await chainlit.Message(f"hello {message.content}").send()
