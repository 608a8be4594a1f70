"""What touches the machine: files, processes, memory, imports on first use."""
