"""A static site over the registry: ``zoo gallery build`` writes it, ``zoo gallery serve`` shows it."""
