"""Publishing: trained weights with their card and manifest entry, on a hub."""

from zoo.spec import Plugin
from zoo.system import lazy

plugin = Plugin(
    "publish", api=2, commands={"publish": "zoo_publish.cli:publish"}, modules={"publishing": "zoo_publish"}
)

__getattr__, __dir__, __all__ = lazy.exports(__name__)
