"""Public functions and values: what their docstrings promise, their examples, and what type checkers see of them."""

import doctest
import importlib
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo import errors
from zoo.spec import Spec

ROOT = Path(__file__).parents[1]
PACKAGES = ("zoo", "zoo_attack", "zoo.data", "zoo.evaluation", "zoo_look", "zoo.registry", "zoo.training")
BEHIND = ("evaluation", "hub", "manifest", "registry", "spec", "testing", "training")
"""Packages that ``import zoo`` is enough for, and that ``dir(zoo)`` does not list."""


def public_callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            is_written_by_authors = inspect.isclass(value) and issubclass(value, Spec) and package == "zoo"
            if inspect.isfunction(value) or is_written_by_authors:
                yield f"{package}.{name}", value


PUBLIC = dict(public_callables())


def sections(function: Callable[..., Any]) -> dict[str, str]:
    """Returns the text below each heading of the docstring, without its indent; what comes first is under ``""``."""
    parts = re.split(r"^(Args|Returns|Raises|Example):\n", inspect.getdoc(function) or "", flags=re.MULTILINE)
    names = ["", *parts[1::2]]
    assert len(names) == len(set(names))
    return {name: re.sub(r"^    ", "", text, flags=re.MULTILINE) for name, text in zip(names, parts[::2], strict=True)}


def entries(text: str) -> list[str]:
    return re.findall(r"^(\w+):", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_docstring_names_every_parameter_and_every_exception_by_its_name(name: str) -> None:
    function, found = PUBLIC[name], sections(PUBLIC[name])
    signature = inspect.signature(function)
    assert found[""].strip()
    assert entries(found.get("Args", "")) == list(signature.parameters)
    is_context = inspect.isgeneratorfunction(inspect.unwrap(function))
    returns_something = not is_context and signature.return_annotation not in (None, "None", inspect.Signature.empty)
    assert not returns_something or "Returns" in found
    raised = entries(found.get("Raises", ""))
    assert "Raises" not in found or raised
    assert set(raised) <= set(errors.__all__)
    assert ">>> " in found["Example"]


@pytest.mark.first(15)
@pytest.mark.parametrize("name", PUBLIC)
def test_an_example_gives_what_it_shows(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    test = doctest.DocTestParser().get_doctest(sections(PUBLIC[name])["Example"], {}, name, name, 0)
    report: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    assert report == []


def test_the_public_names_are_these() -> None:
    functions = ["benchmark", "create", "evaluate", "export", "features", "fetch", "info", "list_models", "predict"]
    functions += ["model", "preprocess", "register", "reproduce", "train", "transforms"]
    values = ["Model", "Network", "Paper", "Plugin", "Preprocess", "ZooError"]
    assert dir(zoo) == sorted(
        [
            *functions,
            *values,
            "attack",
            "classifiers",
            "convert",
            "data",
            "errors",
            "experiment",
            "exporting",
            "look",
            "publishing",
            "timm",
        ]
    )


def test_every_exception_says_when_it_is_raised() -> None:
    for name in errors.__all__:
        assert re.fullmatch(r"[^\n]+\.", getattr(errors, name).__dict__["__doc__"] or ""), name


def test_import_zoo_is_enough_for_every_package_and_brings_no_torch() -> None:
    packages = ", ".join(f"zoo.{name}.__name__" for name in ("attack", "data", "errors", "look", *BEHIND))
    code = (
        f"import sys, zoo; print({packages}, zoo.HubError.__name__, sorted({{'numpy', 'torch'}} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ["HubError", "[]"]
    assert zoo.classifiers.classify.__module__ == "zoo_transfer.classifiers"  # which brings torch
    assert zoo.modules.__name__ == "zoo.modules"


@pytest.mark.slow
def test_a_users_program_passes_a_strict_type_check() -> None:
    """After ``make lint`` mypy has read torch already; without it, that takes half a minute."""
    program = Path(__file__).parent / "support" / "typed_program.py"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(program)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "Success: no issues found in 1 source file\n")


@pytest.mark.slow
def test_pyright_finds_the_one_mistake_in_a_users_program() -> None:
    """Installed by uv for this test alone: it takes 280 MB."""
    program = ROOT / "tests" / "support" / "typed_program.py"
    command = ["-m", "uv", "tool", "run", "--quiet", "basedpyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(
        [sys.executable, *command, str(program)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    found = json.loads(done.stdout)["generalDiagnostics"]
    lines = [one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"]
    misspelt = 1 + next(
        number for number, line in enumerate(program.read_text().splitlines()) if "reset_classifer" in line
    )
    assert lines == [misspelt]
