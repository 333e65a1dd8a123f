from common import HTTP, get
from gradio_client import Client

get("/", "gradio")
client = Client(HTTP, verbose=False)
answer = client.predict("client", api_name="/greet")
assert answer == "hello client", answer
client.close()
