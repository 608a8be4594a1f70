from zoo.spec import Plugin
from zoo_publish.publication import DTYPES as DTYPES
from zoo_publish.publication import Publication as Publication
from zoo_publish.publication import PublishedFile as PublishedFile
from zoo_publish.publication import publish as publish

plugin: Plugin
