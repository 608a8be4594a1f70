"""Every reader of a path, on every kind of hostile file: an error in words, soon, in bounded memory, or an answer.

:data:`READERS` registers the readers. A command's option or argument that takes a file, and is not among them nor among
those that are written, makes :func:`test_every_path_of_a_command_is_registered` fail. :data:`PLACED` registers what is
read from where it lies, data sets and files of trust: a new module of these makes
:func:`test_every_module_that_reads_data_or_trust_is_registered` fail.
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

import zoo
from zoo import registry
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
    "results compare names": (".safetensors", "results", "compare", "@", "resnet20.c10"),
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
    "look trajectory run": "look filters weights",
    **{f"look {name} weights": "look filters weights"
       for name in ("diagnose", "features", "deconv", "patches", "maximize", "attribute", "confusion")},
    **{f"bulk {name} against": "bulk evaluate against"
       for name in ("features", "attack-curve", "benchmark", "verify", "export")},
}  # fmt: skip
"""Parameters that are read by the same line of code as another one."""

WRITTEN = {"output", "outputs", "mistakes", "failures", "manifest", "folder"}
"""Names of parameters that say where to write, or name a folder of ours to serve."""
NO_FILES = {"gallery build channels", "gallery build runtime", "benchmark file", "experiment figure"}
"""Folders of many files of ours, and what is written."""


_IDX = "{0}/train-images-idx3-ubyte{1} {0}/train-labels-idx1-ubyte{1}"
PLACED: dict[str, tuple[str, ...]] = {
    # module and file: where the file or files lie, and what loads a data set, its name and split, or a command's words
    "caltech101 tar": ("caltech101.tar", "load", "caltech101:2:0", "train"),
    "caltech101 gz": ("101_ObjectCategories.tar.gz", "load", "caltech101:2:0", "train"),
    "small_images npz": ("mnist.npz", "load", "mnist", "train"),
    "small_images idx": (_IDX.format("fashion_mnist", ""), "load", "fashion_mnist", "train"),
    "small_images idx gz": (_IDX.format("fashion_mnist", ".gz"), "load", "fashion_mnist", "train"),
    "small_images cifar10": ("cifar-10-binary.tar.gz", "load", "cifar10", "train"),
    "small_images cifar10 file": ("cifar-10-batches-bin/data_batch_1.bin", "load", "cifar10", "train"),
    "parquet named": ("cifar10/train-00000-of-00001.parquet", "load", "cifar10", "train"),
    "parquet file": ("train-0.parquet", "load", "./train-0.parquet", "train"),
    "folder image": ("photos/train/a/x.png", "load", "./photos", "train"),
    "webdataset shard": ("shards/train-000000.tar", "index", "./shards"),
    "webdataset info": ("shards/_info.json", "load", "./shards", "train"),
    "invariant": ("mnist.npz", "load", "mnist_rot", "train"),
    "lock": ("zoo.lock", "predict", NET, DIGIT),
    "policy": ("zoo-policy.toml", "predict", NET, DIGIT),
    "first_use": ("zoo.lock", "lock", "--user"),
}  # fmt: skip

ELSEWHERE = {
    "torch_dataset": "objects of Python",
    "huggingface": "a library reads its files",
    "remote_file": "webdataset's",
    "neocognitron": "its images are drawn",
    "pinning": "no file of its own: it writes manifests, `manifest pin file`",
    "signing": "`manifest sign` and `manifest verify-signature`",
    "releases": "manifests and keys, through signing",
    "repository": "files in the cache, whose sha256 is checked",
    "shared": "other users' pins: tests/trust/test_shared.py",
}
"""Modules that need no case in :data:`PLACED`, and why."""


def test_every_module_that_reads_data_or_trust_is_registered() -> None:
    folders = [Path(zoo.__file__).parent / folder for folder in ("data/readers", "trust")]
    modules = {file.stem for folder in folders for file in folder.glob("*.py")} - {"__init__"}
    assert len(modules) > 12
    plugins = {
        row.name for row in registry.current().plugins if row.plugin and row.plugin.datasets + row.plugin.readers
    }
    assert plugins
    assert not (modules | plugins) - {reader.partition(" ")[0] for reader in PLACED} - ELSEWHERE.keys(), "register it"


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
import click, torch, zoo
from click.testing import CliRunner
from zoo import registry
from zoo.cli import cli
import zoo_convert, zoo_export, zoo_look, zoo_publish, zoo_gallery, zoo_attack
registry.current()

@click.command()
@click.argument("name")
@click.argument("split", required=False)
def load(name, split):
    try:
        if split is None:
            zoo.data.index_shards(name, ["a"])
        else:
            zoo.data.load(name, split).image(0)
    except zoo.ZooError as error:
        raise click.ClickException(str(error)) from None

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
        os.environ |= {"ZOO_DATA": folder, "ZOO_CONFIG": folder, "ZOO_OFFLINE": "1"}
        if words[0] in ("load", "index"):
            done = CliRunner().invoke(load, words[1:])
        else:
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
        "small_images npz": ("pipe", "sparse"),
        "parquet file": ("pipe", "sparse"),
        "folder image": ("pipe", "sparse"),
        "webdataset info": ("pipe", "deep"),
        "webdataset shard": ("sparse",),
        "caltech101 tar": ("sparse",),
        "lock": ("pipe", "deep", "sparse"),
        "policy": ("pipe", "deep", "sparse"),
    }.items()
    for kind in kinds
]
ALL = [Case(reader, kind) for reader in READERS | PLACED for kind in hostile_files.KINDS]


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
    ending, *words = (READERS | PLACED)[case.reader]
    if case.reader in PLACED:
        [file, *_] = [hostile_files.place(case.kind, tmp_path / place) for place in ending.split()]
    else:
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
