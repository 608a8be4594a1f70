"""The published JSON Schema of manifests, held against the code and against the parser."""

import contextlib
import importlib.util
import tomllib
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.toml_text import ENTRY, KEYS, VALUES, toml

from zoo.errors import ManifestError
from zoo.manifest import parse

jsonschema = pytest.importorskip("jsonschema")
DOCS = Path(__file__).parents[2] / "docs"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("schema", DOCS / "schema.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCHEMA = load()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA.schema())
MANIFESTS = sorted(file.name for file in files("weights_manifest").iterdir() if file.name.endswith(".toml"))


def test_the_published_schema_is_the_one_of_this_code() -> None:
    assert SCHEMA.FILE.read_text(encoding="utf-8") == SCHEMA.render(), "run make generate"
    jsonschema.Draft202012Validator.check_schema(SCHEMA.schema())


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_built_in_manifest_validates(name: str) -> None:
    table = tomllib.loads(files("weights_manifest").joinpath(name).read_text())
    assert not [*VALIDATOR.iter_errors(table)]


PROBE = "[resnet18.tag.probe]\n"
BROKEN = {
    "no file": ('file = "model.safetensors"\n', ""),
    "a number as file": ('"model.safetensors"', "3"),
    "a path that leaves the hub": ('"model.safetensors"', '"../model.safetensors"'),
    "a path that leaves it in the middle": ('"model.safetensors"', '"a/../../b"'),
    "an absolute path": ('"timm/resnet18.tag"', '"/etc"'),
    "an empty part": ('"timm/resnet18.tag"', '"timm//x"'),
    "a backslash": ('"model.safetensors"', '"a\\\\b"'),
    "a control character": ('"model.safetensors"', '"a\\u0007b"'),
    "pinned without hash": ("pinned = false\n", ""),
    "unpinned with hash": ("size = 4", f'sha256 = "{"f" * 64}"'),
    "a short hash": ("pinned = false", 'sha256 = "abc"'),
    "a hash in capitals": ("pinned = false", f'sha256 = "{"F" * 64}"'),
    "a branch as revision": ("size = 4", 'revision = "main"'),
    "a negative size": ("size = 4", "size = -4"),
    "a size beyond reason": ("size = 4", f"size = {1 << 53}"),
    "a misspelt key": ("size = 4", "sise = 4"),
    "an empty hub": ("size = 4", 'hub = ""'),
    "a licence that is a number": ('"MIT"', "1"),
    "a misspelt licence": ("weights =", "weight ="),
    "more than all": ("top1 = 70.1", "top1 = 170.1"),
    "a score without images": ("n = 50000\n", ""),
    "a score without source": ('source = "someone"\n', ""),
    "half an image": ("n = 50000", "n = 0.5"),
    "an interpolation nobody knows": ("size = 4", 'preprocess = { interpolation = "lanczos" }'),
    "a crop beyond reason": ("size = 4", "preprocess = { crop_pct = 2.0 }"),
    "a deviation of nothing": ("size = 4", "preprocess = { std = [0.0, 1.0, 1.0] }"),
    "an image of no height": ("size = 4", "preprocess = { input_size = [3, 0, 224] }"),
    "an image of two numbers": ("size = 4", "preprocess = { input_size = [3, 224] }"),
    "a name within": ("size = 4", 'arch = "resnet34"'),
    "a misspelt preprocessing": ("size = 4", "preprocess = { crop = 1.0 }"),
    "a paper that is no address": ("size = 4", 'papers = ["He et al."]'),
    "a name in capitals": ("resnet18.tag", "ResNet18.tag"),
    "a tag in capitals": ("resnet18.tag]", "resnet18.TAG]"),
}


@pytest.mark.parametrize(("old", "new"), BROKEN.values(), ids=BROKEN)
def test_what_is_broken_fails_in_the_schema_and_in_the_parser(old: str, new: str) -> None:
    assert old in ENTRY
    text = ENTRY.replace(old, new)
    with pytest.raises(ManifestError):
        parse(text)
    assert [*VALIDATOR.iter_errors(tomllib.loads(text))]


def test_the_example_of_these_tests_is_accepted_by_both() -> None:
    assert parse(ENTRY)
    assert not [*VALIDATOR.iter_errors(tomllib.loads(ENTRY))]


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_what_the_parser_reads_the_schema_accepts(table: dict[str, Any]) -> None:
    valid = tomllib.loads(ENTRY)["resnet18"]["tag"]
    for entry in (table, valid | table):
        text = "\n".join(["[resnet18.tag]", *(f"{toml(key)} = {toml(value)}" for key, value in entry.items())])
        with contextlib.suppress(ManifestError):
            parse(text)
            assert not [*VALIDATOR.iter_errors(tomllib.loads(text))], text
