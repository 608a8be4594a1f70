"""Networks trained, and trained again."""
