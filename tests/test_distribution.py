"""What people install: the wheels of Zoo and of a third party's plugin, in an environment without this source tree."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "zoo_hello"
OWN = ("zoo_vision", "_zoo_vision", "__editable__", "zoo_hello", "_zoo_hello")


class Environment(NamedTuple):
    """A virtual environment with both wheels, and a folder to work in."""

    bin: Path
    folder: Path
    wheels: dict[str, Path]

    def run(self, command: str, *words: str) -> str:
        """Returns what the command prints; fails with all of its output where it does not exit with 0."""
        done = subprocess.run(
            [self.bin / command, *words],
            cwd=self.folder,
            env=environment(self.folder),
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, f"{command} {' '.join(words)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout


def environment(folder: Path) -> dict[str, str]:
    """Returns the outer variables, without any that bring another Zoo, its caches or the network."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("ZOO_", "HF_", "PYTHON", "PYTEST"))
    }
    own = {"ZOO_CACHE": str(folder / "cache"), "ZOO_CONFIG": str(folder / "config")}
    return kept | own | {"ZOO_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def build(source: Path, folder: Path, target: str = "wheel") -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)],
        cwd=source,
        capture_output=True,
        check=True,
    )
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    for module in ("hatchling", "pip", "sklearn", "timm"):
        pytest.importorskip(module, reason=f"needs {module}")
    top = tmp_path_factory.mktemp("distribution")
    wheels = {"zoo": build(ROOT, top / "zoo"), "hello": build(EXAMPLE, top / "hello")}
    venv.create(top / "venv", symlinks=True)
    scripts = Path(sysconfig.get_path("scripts", "venv", vars={"base": str(top / "venv")}))
    python = scripts / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, *map(str, wheels.values())], capture_output=True, check=True)

    # Torch and the others are borrowed from outside; Zoo is not, nor the .pth that names this source tree.
    borrowed = top / "borrowed"
    borrowed.mkdir()
    for site in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for item in Path(site).iterdir():
            if not item.name.startswith(OWN) and item.suffix != ".pth" and item.name != "__pycache__":
                (borrowed / item.name).symlink_to(item)
    own = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(top / "venv")}))
    (own / "borrowed.pth").write_text(f"{borrowed}\n")
    folder = top / "elsewhere"
    folder.mkdir()
    return Environment(scripts, folder, wheels)


@pytest.mark.slow
def test_the_imported_zoo_is_the_wheels(installed: Environment) -> None:
    code = (
        "import json, importlib.metadata as m, zoo, zoo_resnet, weights_manifest, zoo_hello;"
        "print(json.dumps([zoo.__file__, zoo_resnet.__file__, weights_manifest.__file__, zoo_hello.__file__,"
        " str(m.distribution('zoo-vision').locate_file(''))]))"
    )
    for place in json.loads(installed.run("python", "-c", code)):
        assert Path(place).is_relative_to(installed.bin.parent), place


def test_the_wheel_holds_every_file_of_the_packages(installed: Environment) -> None:
    names = set(zipfile.ZipFile(installed.wheels["zoo"]).namelist())
    expected = set()
    for folder, prefix in (("zoo", "zoo/"), ("weights_manifest", "weights_manifest/"), ("plugins", "")):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                expected.add(prefix + file.relative_to(ROOT / folder).as_posix())
    assert expected - names == set()
    assert {name for name in names - expected if ".dist-info/" not in name} == set()
    assert {"zoo/py.typed", "weights_manifest/resnet.toml", "zoo_resnet/model.py", "zoo_vgg/model.py"} <= names
    assert any(name.startswith("weights_manifest/embedded/") for name in names)


def test_the_wheel_declares_its_licence_and_what_it_needs(installed: Environment) -> None:
    wheel = zipfile.ZipFile(installed.wheels["zoo"])
    about = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    text = wheel.read(about).decode()
    assert "License-Expression: Apache-2.0" in text
    assert "Requires-Dist: torch>=" in text
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


def test_both_distributions_are_listed(installed: Environment) -> None:
    listed = installed.run("zoo", "list").split()
    assert {"hello_net", "resnet152", "vgg16"} <= set(listed)
    rows = {row["name"]: row for row in json.loads(installed.run("zoo", "plugins", "--json"))}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    families = project["project"]["entry-points"]["zoo.plugins"]
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys([*families, "hello"], "ok")
    assert rows["hello"]["distribution"] == "zoo-hello"


@pytest.mark.slow
def test_the_wheel_classifies_an_image(installed: Environment) -> None:
    assert "resnet20.digits" in installed.run("zoo", "list", "resnet20.*")
    printed = installed.run("zoo", "predict", "resnet20.digits", str(ROOT / "examples" / "digit.png"), "--top", "1")
    assert printed.split()[-1] == "3", "the picture shows a 3"


@pytest.mark.slow
def test_the_sdist_builds_the_same_wheel_and_both_are_small_enough_for_an_index(
    installed: Environment, tmp_path: Path
) -> None:
    sdist = build(ROOT, tmp_path / "sdist", "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    wheel = build(source, tmp_path / "wheel")
    assert wheel.name == installed.wheels["zoo"].name
    assert contents(wheel) == contents(installed.wheels["zoo"])
    assert max(sdist.stat().st_size, wheel.stat().st_size) < 100_000_000
    assert {"Makefile", "zensical.toml", "CITATION.cff", ".github", "tests", "docs"} <= set(os.listdir(source))


def contents(wheel: Path) -> dict[str, int]:
    """Returns the checksum of each file."""
    return {info.filename: info.CRC for info in zipfile.ZipFile(wheel).infolist()}


@pytest.mark.slow
def test_embedded_weights_score_what_their_manifest_claims(installed: Environment) -> None:
    report = json.loads(installed.run("zoo", "evaluate", "hello_net.digits", "--check", "--json"))
    claim = tomllib.loads((EXAMPLE / "zoo_hello" / "manifest.toml").read_text(encoding="utf-8"))
    assert report["correct"] == claim["hello_net"]["digits"]["scores"]["digits/test"]["correct"]


@pytest.mark.slow
def test_the_commands_of_the_examples_page_work(installed: Environment) -> None:
    page = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    commands = [shlex.split(command, comments=True) for command, _ in session(page)]
    run = [words for words in commands if words[:2] in (["zoo", name] for name in ("info", "train", "evaluate"))]
    printed = {words[1]: installed.run(*words) for words in run}
    assert printed.keys() == {"info", "train", "evaluate"}
    assert "hello_net" in printed["info"]
    (score,) = re.findall(r"([\d.]+)%", printed["evaluate"])[:1]
    assert float(score) > 80  # the page's own recipe, on ten digits


INSTALL = "pip install '.[data]'"
"""The line of both first pages; docs/index.md has a line for a smaller PyTorch above it, for another index."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_commands_of_the_first_pages_work_in_an_environment_that_their_own_line_installs(tmp_path: Path) -> None:
    """Needs a package index. From the install line on, in a checkout, as a new user types them."""
    with tarfile.open(build(ROOT, tmp_path / "sdist", "sdist")) as archive:
        archive.extractall(tmp_path, filter="data")
    (checkout,) = tmp_path.glob("zoo_vision-*")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    scripts = Path(sysconfig.get_path("scripts", "venv", vars={"base": str(tmp_path / "venv")}))
    variables = {name: value for name, value in environment(tmp_path).items() if name != "ZOO_OFFLINE"}
    variables["PATH"] = os.pathsep.join([str(scripts), os.environ["PATH"]])
    counts = []
    for page in ("README.md", "docs/index.md"):
        commands = session((checkout / page).read_text(encoding="utf-8"))
        start = [command for command, _ in commands].index(INSTALL)
        counts.append(len(commands[start:]))
        for command, shown in commands[start:]:
            done = subprocess.run(
                ["sh", "-c", command], cwd=checkout, env=variables, capture_output=True, text=True, timeout=1500
            )
            assert done.returncode == 0, f"{page}: {command}\n{done.stdout}\n{done.stderr}"
            printed = [" ".join(line.split()) for line in done.stdout.splitlines()]
            missing = [line for line in shown if not line.startswith("#") and " ".join(line.split()) not in printed]
            assert missing == [], f"{page}: {command}\n{done.stdout}"
    assert counts == [6, 7]
    (package,) = (tmp_path / "venv").rglob("zoo/__init__.py")
    assert package.parents[1].name == "site-packages", "installed, not the checkout"
    shutil.rmtree(tmp_path / "venv")  # 1.4 GB


TUTORIALS = {"Tutorial: from an empty folder to published weights": 15 + 1 + 8, "Weights without code": 16}
"""Sections of docs/plugins.md, and their numbers of commands; the first says its own, and between its plugins is cd."""


def session(page: str) -> list[tuple[str, list[str]]]:
    """Returns the commands of a page's console blocks, each with the lines that it is shown to print."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                found.append((line.removeprefix("$ "), []))
            else:
                found[-1][1].append(line)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("section", TUTORIALS)
def test_the_tutorial_works_as_it_is_written(installed: Environment, section: str) -> None:
    """In a shell, in an empty folder; pip builds with what is here instead of a registry's files."""
    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    commands = session(page.partition(f"\n## {section}\n")[2].partition("\n## ")[0])
    assert len(commands) == TUTORIALS[section]
    folder = installed.folder / section.partition(":")[0]
    folder.mkdir()
    for name in ("pip", "pytest"):
        (installed.bin / name).write_text(f'#!/bin/sh\nexec "{installed.bin}/python" -m {name} "$@"\n')
        (installed.bin / name).chmod(0o755)
    identity = {f"GIT_{role}_{field}": "nobody" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")}
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    path = os.pathsep.join([str(installed.bin), os.environ["PATH"]])
    script = "\n".join(f"echo '$ {number}'; {command}" for number, (command, _) in enumerate(commands))
    done = subprocess.run(
        ["sh", "-e", "-c", f"exec 2>&1\n{script}"],
        cwd=folder,
        env=environment(installed.folder) | offline | identity | {"PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    parts = re.split(r"^\$ \d+\n", done.stdout, flags=re.MULTILINE)[1:]
    for (command, shown), printed in zip(commands, parts, strict=True):
        lines = [" ".join(line.split()) for line in printed.splitlines()]
        assert [line for line in shown if " ".join(line.split()) not in lines] == [], f"{command}\n{printed}"
    if section.startswith("Tutorial"):
        manifest = tomllib.loads((folder / "zoo_tiny" / "zoo_tiny" / "manifest.toml").read_text(encoding="utf-8"))
        assert manifest["tiny_net"]["digits"]["scores"]["digits/test"]["top1"] > 90


@pytest.mark.slow
def test_a_third_party_runs_the_conformance_kit(installed: Environment) -> None:
    copy = installed.folder / "checkout"
    shutil.copytree(EXAMPLE / "tests", copy / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(EXAMPLE / "pyproject.toml", copy)
    printed = installed.run("python", "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", "-v", str(copy))
    assert "test_conformance[hello_net-gradients] PASSED" in printed
    assert "test_conformance[hello_net.digits-weights] PASSED" in printed
