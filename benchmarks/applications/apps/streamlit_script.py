"""What streamlit_app.py serves."""

import streamlit

streamlit.title("hello from streamlit")
