from zoo.spec import Plugin
from zoo_export.by_name import Export as Export
from zoo_export.by_name import export as export
from zoo_export.class_map import add_class_map as add_class_map
from zoo_export.formats import SUFFIXES as SUFFIXES
from zoo_export.formats import about_of as about_of
from zoo_export.writers import export_maps as export_maps

plugin: Plugin
