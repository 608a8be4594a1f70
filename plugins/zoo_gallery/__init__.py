"""A static site over the registry: ``zoo gallery build`` writes it, ``zoo gallery serve`` shows it."""

from zoo.spec import Plugin

plugin = Plugin("gallery", api=2, commands={"gallery": "zoo_gallery.cli:gallery"})
