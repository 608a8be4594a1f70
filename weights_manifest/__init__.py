"""The weights that the built-in families publish, one manifest a family; ``embedded/`` holds those that ship along."""
