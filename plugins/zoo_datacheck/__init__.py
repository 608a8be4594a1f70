"""``zoo data check``: what is wrong with a folder of one's own photographs."""

from zoo.spec import Plugin

plugin = Plugin("datacheck", api=2, commands={"data": "zoo_datacheck.cli:data"})
