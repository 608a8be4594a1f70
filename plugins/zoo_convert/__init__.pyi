from zoo.spec import Plugin
from zoo_convert.choice import Reading as Reading
from zoo_convert.choice import Stated as Stated
from zoo_convert.conversion import ConversionReport as ConversionReport
from zoo_convert.conversion import convert as convert

plugin: Plugin
