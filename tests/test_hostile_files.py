"""Every reader of a path, on every kind of hostile file: an error in words, soon, in bounded memory, or an answer.

:data:`READERS` registers the readers. A command's option or argument that takes a file, and is not among them nor among
those that are written, makes :func:`test_every_path_of_a_command_is_registered` fail.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from support import hostile_files

from zoo.cli import cli

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs pipes, devices and limits of Linux")

NET = "resnet20.digits"
DIGIT = str(Path(__file__).parents[1] / "examples" / "digit.png")

READERS: dict[str, tuple[str, ...]] = {
    # command and parameter: the ending of the file, and the words, with @ in its place
    "predict images": (".png", "predict", NET, "@"),
    "predict weights": (".safetensors", "predict", NET, DIGIT, "--weights", "@"),
    "predict name": (".onnx", "predict", "@", DIGIT),
    "evaluate name": (".pt2", "evaluate", "@", "--data", "digits"),
    "evaluate weights": (".safetensors", "evaluate", NET, "--weights", "@"),
    "calibrate source": (".safetensors", "calibrate", "@"),
    "calibrate weights": (".safetensors", "calibrate", NET, "--weights", "@"),
    "results show file": (".csv", "results", "show", "@"),
    "results show against": (".parquet", "results", "show", "@", "--against", "@"),
    "results metrics file": (".safetensors", "results", "metrics", "@"),
    "results metrics other": (".safetensors", "results", "metrics", "@", "@"),
    "train init": (".safetensors", "train", "resnet8", "--data", "digits", "-o", "run", "--init", "@"),
    "train teacher": (".safetensors", "train", "resnet8", "--data", "digits", "-o", "run", "--teacher", "@"),
    "train queue": (".toml", "train", "--queue", "@", "-o", "runs"),
    "reproduce name": (".safetensors", "reproduce", "@"),
    "manifest pin file": (".toml", "manifest", "pin", NET, "@"),
    "manifest probe manifests": (".toml", "manifest", "probe", "@"),
    "manifest sign path": (".toml", "manifest", "sign", "@", "--key", "@"),
    "manifest sign key": (".pem", "manifest", "sign", "@", "--key", "@"),
    "manifest verify-signature path": (".toml", "manifest", "verify-signature", "@", "--key", "@"),
    "manifest verify-signature key": (".pub", "manifest", "verify-signature", "@", "--key", "@"),
    "manifest verify-signature trust_root": (".json", "manifest", "verify-signature", "@", "--trust-root", "@"),
    "plugins check name": (".whl", "plugins", "check", "@"),
    "attack image picture": (".png", "attack", "image", NET, "@", "-o", "out.png"),
    "attack patch apply patch": (".safetensors", "attack", "patch", "apply", "@", DIGIT, "-o", "out"),
    "attack patch apply images": (".png", "attack", "patch", "apply", "@", "@", "-o", "out"),
    "attack patch score patch": (".safetensors", "attack", "patch", "score", NET, "@", "--data", "digits"),
    "bulk evaluate against": (".csv", "bulk", "evaluate", NET, "--data", "digits", "-o", "out", "--against", "@"),
    "convert source": (".pth", "convert", "@", "resnet20.mine", "-o", "mine.safetensors"),
    "convert source keras": (".h5", "convert", "@", "resnet20.mine", "-o", "mine.safetensors"),
    "convert source onnx": (".onnx", "convert", "@", "resnet20.mine", "-o", "mine.safetensors"),
    "export weights": (".safetensors", "export", NET, "-o", "x.pt2", "--weights", "@"),
    "gallery build latency": (".csv", "gallery", "build", NET, "-o", "site", "--latency", "@"),
    "gallery build failures": (".json", "gallery", "build", NET, "-o", "site", "--failures", "@"),
    "gallery build tables": (".csv", "gallery", "build", NET, "-o", "site", "--tables", "@"),
    "look filters weights": (".safetensors", "look", "filters", NET, "--weights", "@"),
    "look features image": (".png", "look", "features", NET, "--image", "@"),
    "look deconv image": (".png", "look", "deconv", NET, "--image", "@"),
    "look attribute image": (".png", "look", "attribute", NET, "--image", "@"),
    "publish source": (".safetensors", "publish", "@", "--as", "resnet20.mine", "--to", "hub"),
    "features weights": (".safetensors", "features", NET, "--data", "digits", "-o", "f", "--weights", "@"),
    "classify train": (".safetensors", "classify", "@", "@"),
    "classify test": (".safetensors", "classify", "@", "@"),
}  # fmt: skip

ALIKE = {
    "reproduce init": "train init",  # which are read only for a run that had them
    "reproduce teacher": "train teacher",
    **{f"look {name} weights": "look filters weights"
       for name in ("diagnose", "features", "deconv", "patches", "maximize", "attribute", "confusion")},
    **{f"bulk {name} against": "bulk evaluate against"
       for name in ("features", "attack-curve", "benchmark", "verify", "export")},
}  # fmt: skip
"""Parameters that are read by the same line of code as another one."""

WRITTEN = {"output", "outputs", "failures", "manifest", "folder"}
"""Names of parameters that say where to write, or name a folder of ours to serve."""
NO_FILES = {"gallery build channels", "gallery build runtime", "benchmark file"}
"""Folders of many files of ours, and a table that is written."""


def paths_of(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[str]:
    """Yields each parameter that takes a file, with its command."""
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                if (inner := command.get_command(context, name)) is not None:
                    yield from paths_of(inner, (*words, name))
        return
    for parameter in command.params:
        is_file = isinstance(parameter.type, click.Path | click.File)
        if is_file or any(word in (parameter.metavar or "") for word in ("FILE", "WHEEL")):
            yield " ".join([*words, str(parameter.name)])


def test_every_path_of_a_command_is_registered() -> None:
    registered = READERS.keys() | ALIKE.keys() | NO_FILES
    read = {path for path in paths_of(cli) if path.rpartition(" ")[2] not in WRITTEN} | {"gallery build failures"}
    assert len(read) > 40
    assert not read - registered, "register how it is read"


SERVER = """
import json, os, resource, signal, sys, traceback
import torch, zoo
from click.testing import CliRunner
from zoo import registry
from zoo.cli import cli
import zoo_convert, zoo_export, zoo_look, zoo_publish, zoo_gallery, zoo_attack
registry.current()
print("ready", flush=True)
for line in sys.stdin:
    folder, words, seconds = json.loads(line)
    receiver, sender = os.pipe()
    child = os.fork()  # in which a reader may hang or fill its memory
    if not child:
        signal.alarm(seconds)
        os.chdir(folder)
        pages = int(open("/proc/self/statm").read().split()[0])
        most = pages * resource.getpagesize() + (1 << 30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        done = CliRunner().invoke(cli, words, prog_name="zoo")
        unknown = None if isinstance(done.exception, SystemExit | None) else done.exception
        said = "".join(traceback.format_exception(unknown)) if unknown else done.output
        answer = [done.exit_code, type(unknown).__name__ if unknown else "", said[-1500:]]
        os.write(sender, json.dumps(answer).encode())
        os._exit(0)
    os.close(sender)
    with os.fdopen(receiver) as answer:
        print(answer.read() or "[null, \\"ended\\", \\"it hangs, or the process ended\\"]", flush=True)
    os.waitpid(child, 0)
"""


class Case(NamedTuple):
    reader: str
    kind: str


SECONDS = 30
"""A case takes less than one; a sandbox starts in three."""

QUICK = [
    Case(reader, kind)
    for reader, kinds in {
        "predict images": ("pipe", "device", "sparse"),
        "predict weights": ("pipe", "sparse"),
        "results show file": ("pipe", "sparse"),
        "results metrics file": ("pipe", "deep"),
        "train queue": ("pipe", "device", "deep", "wrong"),
        "manifest probe manifests": ("pipe", "deep"),
        "gallery build failures": ("pipe", "deep", "sparse"),
        "publish source": ("pipe", "sparse"),
    }.items()
    for kind in kinds
]
ALL = [Case(reader, kind) for reader in READERS for kind in hostile_files.KINDS]


@pytest.fixture(scope="module")
def server() -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.terminate()
    process.wait()
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        stream.close()


@pytest.mark.parametrize(
    "case",
    [
        *(pytest.param(case, id="-".join(case)) for case in QUICK),
        *(pytest.param(case, id="-".join(case), marks=pytest.mark.slow) for case in ALL if case not in QUICK),
    ],
)
def test_a_hostile_file_is_refused_in_words(case: Case, server: "subprocess.Popen[str]", tmp_path: Path) -> None:
    ending, *words = READERS[case.reader]
    file = hostile_files.make(case.kind, tmp_path, ending)
    before = hostile_files.state_of(file)
    assert server.stdin is not None
    assert server.stdout is not None
    asked = [str(file) if word == "@" else word for word in words]
    server.stdin.write(json.dumps([str(tmp_path), asked, SECONDS]) + "\n")
    server.stdin.flush()
    answer = server.stdout.readline()
    code, unknown, said = json.loads(answer)
    assert not unknown, said
    assert code in ((0, 1, 2) if case.kind in ("empty", "wrong") else (1, 2)), said  # a table may have no rows
    assert "Traceback" not in said
    assert "\x1b" not in said
    assert hostile_files.state_of(file) == before
