"""Which bytes a project accepts: locked, pinned, packed, signed."""
