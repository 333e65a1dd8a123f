"""Bytes that nobody would send on purpose."""
