"""Files, processes, memory, lazy imports."""
