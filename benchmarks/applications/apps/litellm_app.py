"""Writes the configuration of LiteLLM's proxy: a model that answers by itself."""

from pathlib import Path

CONFIG = """
model_list:
  - model_name: mock
    litellm_params: {model: openai/mock, api_key: none, mock_response: hello from litellm}
"""

if __name__ == "__main__":
    Path("litellm.yaml").write_text(CONFIG)
