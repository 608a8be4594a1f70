"""Writes docs/manifest.schema.json, the JSON Schema of a weights manifest: ``python docs/schema.py``.

Types, bounds and patterns come from ``zoo.manifest``; what its values check of each other on
construction is said again here, where JSON Schema can say it. A test holds the file against this
module, and both against the parser.
"""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import msgspec

from zoo.manifest import Release, Weights
from zoo.spec.preprocess import LONGEST_SIDE, MOST_CHANNELS

FILE = Path(__file__).with_name("manifest.schema.json")

PART = "[a-z0-9][a-z0-9_]*"
END = r"$(?!\n)"
OUTSIDE = r"(^|/)\.{0,2}(/|$)|\\"
"""What a path within a hub has not: an empty, . or .. part, a backslash."""


def schema() -> dict[str, Any]:
    """Tables of tables, ``[arch.tag]``, each an entry."""
    _, definitions = msgspec.json.schema_components([Weights, Release], ref_template="#/$defs/{name}")
    entry = definitions["Weights"]
    for key in ("arch", "tag"):  # they are the table's name
        del entry["properties"][key]
    properties = entry["properties"]
    properties["file"]["not"] = {"pattern": OUTSIDE}
    properties["repo"]["anyOf"] = [{"const": ""}, {"not": {"pattern": OUTSIDE}}]
    properties["hub"]["minLength"] = 1
    entry["if"] = {"properties": {"sha256": {"minLength": 1}}, "required": ["sha256"]}
    entry["then"] = {"properties": {"pinned": {"const": True}}}
    entry["else"] = {"properties": {"pinned": {"const": False}}, "required": ["pinned"]}
    definitions["Preprocess"]["additionalProperties"] = False
    preprocess = definitions["Preprocess"]["properties"]
    preprocess["crop_pct"] |= {"exclusiveMinimum": 0, "exclusiveMaximum": 2}
    preprocess["std"]["items"] |= {"exclusiveMinimum": 0}
    for size, most in zip(
        preprocess["input_size"]["prefixItems"], (MOST_CHANNELS, LONGEST_SIDE, LONGEST_SIDE), strict=True
    ):
        size |= {"minimum": 1, "maximum": most}
    for definition in definitions.values():
        text, _, fields = inspect.cleandoc(definition["description"]).partition("Args:\n")
        definition["description"] = " ".join(text.split())
        for name, meaning in re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", fields, re.MULTILINE):
            if name in definition["properties"]:
                definition["properties"][name]["description"] = " ".join(meaning.split())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Zoo weights manifest",
        "description": "A table [arch.tag] an entry; docs/weights.md explains it.",
        "type": "object",
        "properties": {
            "release": {"$ref": "#/$defs/Release"},
            "key_maps": {
                "type": "object",
                "description": "Key maps for zoo convert, a table [key_maps.NAME] each: docs/plugins.md.",
                "additionalProperties": {"type": "object"},
            },
        },
        "patternProperties": {
            f"^(?!(key_maps|release){END})({PART}/)?{PART}{END}": {
                "type": "object",
                "patternProperties": {f"^{PART}{END}": {"$ref": "#/$defs/Weights"}},
                "additionalProperties": False,
            }
        },
        "additionalProperties": False,
        "$defs": definitions,
    }


def render() -> str:
    return json.dumps(schema(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(render(), encoding="utf-8")
