"""Tries a plugin's wheel in a temporary environment: what a user gets who installs it.

The environment has the wheel, and this environment's Zoo and libraries behind it. Each step runs in a process there:
``python -m zoo.testing.wheel PLUGIN FILE`` lists, loads, verifies, predicts, and writes each outcome to FILE.
"""

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from configparser import Error as ConfigError
from functools import partial
from pathlib import Path

import msgspec
from PIL import Image

import zoo
from zoo import registry
from zoo.errors import FileFormatError, MissingExtraError, PluginError, ZooError
from zoo.evaluation.prediction import predict
from zoo.loading.create import create, preprocess
from zoo.registry import DATA_GROUP, GROUP, PluginRow
from zoo.spec import Model
from zoo.testing.outcome import Outcome
from zoo.verify import worker

TIMEOUT = 600.0
"""Seconds that the steps of one plugin may take after its installation."""


def attempt(wheel: Path) -> Iterator[Outcome]:
    """Installs the wheel, lists its plugins, creates its models, verifies its weights and predicts an image.

    Yields the outcome of each step for each model; if the wheel cannot be installed, there are no others. Raises
    :class:`FileFormatError` if the file is not a wheel, and :class:`PluginError` if nothing can install it.
    """
    plugins = _announced(wheel)
    if not plugins:
        reason = f"{wheel.name}: entry points: none in the groups {GROUP} and {DATA_GROUP}"
        hint = f'Add [project.entry-points."{GROUP}"] to pyproject.toml and build the wheel again.'
        yield Outcome("installed", wheel.name, "entry points", "failed", reason, hint)
        return
    with tempfile.TemporaryDirectory(prefix="zoo-wheel-") as folder:
        python = environment(Path(folder))
        yield (installed := _installed(python, wheel))
        for plugin in plugins if installed.status == "passed" else ():
            yield from _tried(python, plugin, Path(folder))


def _announced(wheel: Path) -> list[str]:
    """Returns the names of the wheel's entry points in the groups of plugins and of weights."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt")]
            text = "\n".join(archive.read(name).decode() for name in names)
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise FileFormatError(f"{wheel} is not a wheel: {error}", hint="pip wheel --no-deps . builds one.") from None
    parser = ConfigParser(delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    try:
        parser.read_string(text)
    except ConfigError as error:
        raise FileFormatError(f"{wheel}: entry_points.txt cannot be read: {error}") from None
    return [name for group in (GROUP, DATA_GROUP) if parser.has_section(group) for name in parser[group]]


def environment(folder: Path) -> Path:
    """Creates a virtual environment in ``folder`` that sees all libraries of this one; returns its Python."""
    venv.create(folder / "venv", symlinks=os.name != "nt")
    variables = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=variables))
    outside = [path for path in sys.path if Path(path).is_dir()] + [str(Path(zoo.__file__).parents[1])]
    (packages / "outside.pth").write_text("".join(f"{path}\n" for path in dict.fromkeys(outside)), encoding="utf-8")
    return Path(sysconfig.get_path("scripts", "venv", vars=variables)) / ("python.exe" if os.name == "nt" else "python")


def _installed(python: Path, wheel: Path) -> Outcome:
    if importlib.util.find_spec("pip"):
        words = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
        words += ["--force-reinstall", "--disable-pip-version-check"]
    elif importlib.util.find_spec("uv"):
        words = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python), "--no-deps"]
        words += ["--offline"]
    else:
        raise PluginError("A wheel is installed by pip or uv, and this environment has neither.", hint="pip install uv")
    done = subprocess.run([*words, str(wheel.absolute())], capture_output=True, text=True, env=variables(python))
    if done.returncode:
        reason = f"{wheel.name}: cannot be installed: {done.stderr.strip()}"
        return Outcome("installed", wheel.name, "wheel", "failed", reason)
    return Outcome("installed", wheel.name, "wheel", "passed")


def _tried(python: Path, plugin: str, folder: Path) -> Iterator[Outcome]:
    """Yields the outcomes that :mod:`zoo.testing.wheel` writes, and another one if its process ended early."""
    answer = folder / f"{plugin}.jsonl"
    words = [str(python), "-m", "zoo.testing.wheel", plugin, str(answer)]
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=variables(python), timeout=TIMEOUT)
        reason = f"its process ended with exit code {done.returncode}: {done.stderr.strip()[-2000:]}"
        is_whole = done.returncode == 0
    except subprocess.TimeoutExpired:
        reason, is_whole = f"it took more than {TIMEOUT:g} s", False
    lines = answer.read_text(encoding="utf-8").splitlines() if answer.exists() else []
    for line in lines:
        yield Outcome(**json.loads(line))
    if not is_whole:
        yield Outcome("trial", plugin, "plugin", "failed", f"{plugin}: {reason}")


def variables(python: Path) -> dict[str, str]:
    """Returns the variables of this process, less what chooses other plugins, hubs or paths; the cache is a new one."""
    foreign = ("ZOO_", "PYTHON", "PIP_", "UV_", "PYTEST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    top = python.parents[2]
    own = {"ZOO_CACHE": str(top / "cache"), "ZOO_CONFIG": str(top / "config"), "ZOO_OFFLINE": "1"}
    return kept | own | {"HF_HUB_OFFLINE": "1", "PYTHONSAFEPATH": "1"}


def outcomes(plugin: str) -> Iterator[Outcome]:
    """Yields an outcome of each step for the plugin, its models and those weights that it ships with."""
    row = next((row for row in registry.current().plugins if row.name == plugin), None)
    if row is None or row.plugin is None:
        reason = f"{row.status}: {row.reason}" if row else "not found among the installed plugins"
        yield Outcome("listed", plugin, "entry point", "failed", f"{plugin}: entry point: {reason}")
        return

    def list_weights() -> None:
        _ = row.weights

    yield (listed := _outcome("listed", plugin, "weights", list_weights))
    for model in row.models.values():
        yield _outcome("loaded", model.name, "build", partial(create, f"{plugin}/{model.name}"))
        if listed.status == "passed":
            yield from _of_weights(row, model)
    for arch in row.brought_tags:
        yield from _of_names([entry.name for entry in row.brought(arch) if entry.hub.startswith("embedded:")])


def _of_weights(row: PluginRow, model: Model) -> Iterator[Outcome]:
    """Tries the weights that the wheel has; of a model without any, its random outputs."""
    entries = row.weights.get(model.name, ())
    names = [f"{row.name}/{entry.name}" for entry in entries if entry.hub.startswith("embedded:")]
    yield from _of_names(names)
    if not names:
        yield _outcome("predicted", model.name, "forward", partial(_predict, f"{row.name}/{model.name}"))


def _of_names(names: list[str]) -> Iterator[Outcome]:
    for name in names:
        of = name.partition("/")[2]
        yield _outcome("verified", of, "file", partial(worker.verify, name))
        yield _outcome("predicted", of, "forward", partial(_predict, name))


def _predict(name: str) -> None:
    """Classifies a grey picture of the network's size."""
    network = create(name).eval()
    height, width = preprocess(network).preprocess.input_size[1:]
    predict(network, Image.new("L", (width, height), color=127))


def _outcome(step: str, of: str, field: str, work: Callable[[], object]) -> Outcome:
    try:
        work()
    except MissingExtraError as error:
        return Outcome(step, of, field, "skipped", f"{of}: {error.message}", error.hint)
    except ZooError as error:
        return Outcome(step, of, field, "failed", f"{of}: {field}: {error.message}", error.hint)
    except Exception as error:  # a plugin's code may raise anything
        return Outcome(step, of, field, "failed", f"{of}: {field}: {type(error).__name__}: {error}")
    return Outcome(step, of, field, "passed")


def _main(plugin: str, answer: str) -> None:
    with Path(answer).open("ab") as file:
        for outcome in outcomes(plugin):
            file.write(msgspec.json.encode(outcome) + b"\n")
            file.flush()


if __name__ == "__main__":
    _main(*sys.argv[1:])
