"""Requests as bytes, each beside its expected outcome: `name.http` and `name.toml`; see README.md."""
