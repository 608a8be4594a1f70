"""Exported networks: files for other runtimes, what they say about themselves, and networks that run them."""
