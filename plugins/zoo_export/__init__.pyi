from zoo.spec import Plugin
from zoo_export.by_name import Export as Export
from zoo_export.by_name import export as export
from zoo_export.feature_maps import export_maps as export_maps

plugin: Plugin
