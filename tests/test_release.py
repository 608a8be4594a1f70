"""What a release consists of: versions that agree, metadata that is valid, workflows that run what exists."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import zoo

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CITATION: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_every_file_that_states_the_version_states_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    site = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    assert {zoo.__version__, project["version"], CITATION["version"], site["site_name"].removeprefix("Zoo ")} == {
        zoo.__version__
    }


def test_the_changelog_has_a_section_for_the_version_or_for_what_comes() -> None:
    sections = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert re.fullmatch(rf"Unreleased|{re.escape(zoo.__version__)} \(\d{{4}}-\d\d-\d\d\)", sections[0])


def test_the_citation_has_the_date_of_a_release_and_none_before() -> None:
    [section, *_] = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    date = re.search(r"\((.*)\)", section)
    assert str(CITATION.get("date-released", "")) == (date[1] if date else "")


def test_the_citation_is_valid() -> None:
    """By the schema of the Citation File Format 1.2.0 (its authors, CC-BY-4.0)."""
    schema = json.loads((ROOT / "tests" / "support" / "cff-1.2.0.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(schema).validate(CITATION)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(schema).validate(CITATION | {"license": "Apache"})


def steps(workflow: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_targets_of_the_makefile(workflow: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = [step["run"] for step in steps(workflow) if step.get("run", "").startswith("make ")]
    text = re.sub(r"\$\{\{ matrix\.target \}\}", "test-slow test-versions", " ".join(commands))
    targets = [word for word in re.sub(r'\w+=("[^"]*"|\S*)', "", text).split() if word != "make"]
    assert {"test", "test-slow"} & {*targets}
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_pins_actions_and_may_only_read(workflow: Path) -> None:
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert used
    assert [name for name in used if not re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", name)] == []
    assert yaml.safe_load(workflow.read_text(encoding="utf-8"))["permissions"] == {"contents": "read"}


def test_ci_runs_every_python_that_the_classifiers_name() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line) for line in project["classifiers"]]
    assert jobs["test"]["strategy"]["matrix"]["python"] == [found[1] for found in named if found]
