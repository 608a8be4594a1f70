"""The documents: every command and block of Python in them runs as it is written.

A page is run from top to bottom in a folder of its own, on a sample of the data sets. A block whose first
line is ``# needs ...`` (a network, GPUs, ImageNet) is not run; its commands must still parse. Commands in
the text, such as ``zoo info NAME``, must parse too: words in capitals stand for anything.
"""

import io
import os
import re
import shlex
import shutil
import subprocess
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
from click.testing import CliRunner
from PIL import Image
from support import samples
from support.reference import cifar10_test_images, public_weights

import zoo
from zoo import registry
from zoo.cli import cli
from zoo.errors import UnknownNameError

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "zoo_hello" / "README.md"
"""Run by test_distribution, where the example is installed."""

COURSE = sorted((ROOT / "docs" / "course").glob("*.md"))
"""Chapters are run as notebooks by test_course_pages; only their commands are checked here."""

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *COURSE, EXAMPLE]
SLOW = {"docs/training.md", "docs/transfer.md", "docs/attacks.md", "docs/looking.md", "docs/publishing.md"}
SLOW |= {
    f"docs/{name}.md"
    for name in (
        "bulk",
        "deployment",
        "export",
        "faq",
        "gallery",
        "index",
        "offline",
        "performance",
        "photographs",
        "reproducing",
    )
}
"""Pages that train, look at many images, export, or start many processes."""

TUTORIALS = ("Tutorial: from an empty folder to published weights", "Weights without code")
"""Sections that test_distribution runs, in an environment of its own."""

THIRD_PARTY = ("sure", "detect", "first/detect", "second/detect")
"""Commands of plugins that pages write."""

NOT_RUN = ("pip", "pytest", "make")
"""test_distribution installs Zoo and the example, and runs the example's tests; ``make`` runs these tests."""


class Block(NamedTuple):
    section: str
    line: int
    language: str
    text: str

    @property
    def needs(self) -> str:
        return self.text.removeprefix("# needs ").partition("\n")[0] if self.text.startswith("# needs ") else ""

    @property
    def is_run(self) -> bool:
        return self.language in ("console", "python") and not self.needs and self.section not in TUTORIALS

    def commands(self) -> list[str]:
        joined = self.text.replace("\\\n", " ")
        return [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ")]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        section = re.findall(r"^## (.*)$", text[: found.start()], re.MULTILINE)[-1:]
        yield Block("".join(section), text.count("\n", 0, found.start()) + 1, found[1], found[2])


def test_every_block_has_a_language_that_says_how_it_is_checked() -> None:
    for page in PAGES:
        assert not re.search(r"^ +```", page.read_text(encoding="utf-8"), re.MULTILINE), (
            "an indented block is not found"
        )
        for block in blocks(page):
            assert block.language in ("console", "python", "toml", "text"), f"{name_of(page)}:{block.line}"
            assert block.language != "console" or block.commands(), f"{name_of(page)}:{block.line} has no command"


# ---- commands parse ---------------------------------------------------------------------------------------


def commands_in_text(page: Path) -> Iterator[str]:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for found in re.finditer(r"`((?:[A-Z_]+=\S+ )*zoo [a-z][^`]*)`", text):
        first, *others = re.split(r" ?\\?\| ?", " ".join(found[1].split()))
        yield first
        yield from (f"{first.rpartition(' ')[0]} {other}" for other in others)


def check(command: str) -> None:
    """Raises where the part of ``command`` that is Zoo's has no meaning to the command line."""
    words = shlex.split(command, comments=True)
    if "zoo" not in words:
        return
    words = [word for word in words[words.index("zoo") + 1 :] if word != "--debug"]
    found: click.Command = cli
    context = click.Context(cli, info_name="zoo", **cli.context_settings)
    while isinstance(found, click.Group):
        if not words or words[0] in THIRD_PARTY or words[0].isupper() or words[0] == "...":
            return
        try:
            name, part, words = found.resolve_command(context, words)
        except click.UsageError as error:
            raise AssertionError(f"{command}: {error.format_message()}") from error
        assert part is not None
        context = click.Context(part, info_name=name, parent=context)
        found = part
    if not words or words == ["--queue"]:  # the command alone
        return
    try:
        given, left, _ = found.make_parser(context).parse_args([word for word in words if word != "..."])
    except click.UsageError as error:
        raise AssertionError(f"{command}: {error.format_message()}") from error
    assert not left, f"{command}: too many arguments, {left}"
    for parameter in ("name", "names", "model") if "plugins" not in context.command_path else ():
        value = given.get(parameter)
        for name in [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else ():
            check_name(command, name)


def check_name(command: str, name: str) -> None:
    """Checks names; a page's own weights have a tag that nobody else knows, but an architecture that is there."""
    arch = name.partition(".")[0]
    if not re.search(r"[A-Z*?\[/]", name) and arch not in ("hello", "hello_net", "tiny_net", "patches_ridge"):
        registry.current().find(arch)


@pytest.mark.first(10)
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_its_commands_are_ones_that_the_command_line_knows(page: Path) -> None:
    for command in commands_in_text(page):
        check(command)
    for block in blocks(page):
        for command in block.commands() if block.language == "console" else ():
            check(command)


@pytest.mark.parametrize(
    "command", ["zoo info resnet20 resnet32", "zoo list --famly vgg", "zoo looks", "zoo info resnet21"]
)
def test_a_command_that_would_fail_is_found(command: str) -> None:
    with pytest.raises((AssertionError, UnknownNameError)):
        check(command)


def test_extras_and_targets_that_pages_name_exist() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in [*PAGES, ROOT / "CONTRIBUTING.md"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {part for found in re.findall(r"(?:zoo-vision|'\.)\[([\w,]+)\]", text) for part in found.split(",")}
    assert extras
    assert extras <= project["optional-dependencies"].keys()
    targets = set(re.findall(r"`make ([\w-]+)`|^\$ make ([\w-]+)", text, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in {one or other for one, other in targets}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"


# ---- pages run --------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples.write(tmp_path_factory.mktemp("sample"))


def furnish(folder: Path) -> dict[str, Any]:
    """Puts the pictures that pages speak of into ``folder``; returns the values that their Python uses."""
    import datasets

    for part in ("examples", "docs", "weights_manifest"):
        shutil.copytree(ROOT / part, folder / part)
    images, labels = cifar10_test_images(8)
    pixels = (images * 255).byte()
    for name, row in (("cat.png", 0), ("photo.png", 1), ("picture.jpg", 2)):
        Image.fromarray(pixels[row].permute(1, 2, 0).numpy()).save(folder / name)
    for split in ("train", "test"):  # as a folder of one's own images, and as shards that others wrote
        for kind, row in (("crow", 3), ("jay", 4)):
            (folder / "photos" / split / kind).mkdir(parents=True)
            for number in range(2):
                Image.fromarray(pixels[row + number].permute(1, 2, 0).numpy()).save(
                    folder / "photos" / split / kind / f"{number}.png"
                )
    (folder / "others").mkdir()
    with tarfile.open(folder / "others" / "a.tar", "w") as shard:
        for name, data in (("0.png", (folder / "cat.png").read_bytes()), ("0.cls", b"0")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))
    (folder / "resnet20-12fca82f.th").symlink_to(public_weights("akamaster/resnet20-12fca82f.th"))
    with Image.open(folder / "examples" / "digit.png") as file:
        digit = file.copy()
    columns = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["crow", "jay"])})
    dataset = datasets.Dataset.from_dict({"image": [digit] * 2, "label": [0, 1]}, columns).to_iterable_dataset()
    return {
        "zoo": zoo,
        "dataset": dataset,
        "images": images,
        "labels": labels,
        "uint8_pixels": pixels,
        "picture": digit,
    }


def run(command: str, folder: Path) -> None:
    words = shlex.split(command, comments=True)
    environment = {}
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, _, environment[name] = words.pop(0).partition("=")
    if words[0] in NOT_RUN:
        return
    if words[0] == "zoo":
        registry.clear()  # another ZOO_HUB, another command's files
        done = CliRunner(env=environment).invoke(cli, words[1:], prog_name="zoo")
        assert done.exit_code == 0, f"{command}\n{done.output}"
    else:
        subprocess.run(words, check=True, cwd=folder, env={**os.environ, **environment}, capture_output=True)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if name_of(page) in SLOW else [], id=name_of(page))
        for page in PAGES
        if page != EXAMPLE and not re.match(r"\d\d-", page.name) and any(block.is_run for block in blocks(page))
    ],
)
def test_it_runs_as_written(page: Path, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_DATA", str(sample))
    for block in filter(lambda block: block.is_run, blocks(page)):
        if block.language == "console":
            for command in block.commands():
                run(command, tmp_path)
        if block.language == "python":
            code = "\n" * block.line + block.text  # errors show the page's lines
            exec(compile(code, str(page), "exec"), names)
    if page == PAGES[0]:
        assert names["logits"].argmax() == 3, "the picture shows a 3"
