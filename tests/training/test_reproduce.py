"""Weights trained again from their record: the same to the bit, as good, or different, and why."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest
import safetensors.torch
import torch
from support import distributions, specimen
from support.command import ask

import zoo
from zoo import registry
from zoo.errors import DataError, TrainingError
from zoo.loading import safetensors_file
from zoo.manifest import Score, Weights, render
from zoo.system import machine, storage
from zoo.training import record, reproduce
from zoo.training.run import PLACE, Silent

pytest.importorskip("timm", reason="needs zoo-vision[train]")

SETTINGS = {"epochs": 2, "warmup_epochs": 1, "batch_size": 256, "lr": 0.5}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on the path with a family of one small network, ``net``."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        specimen.install(folder, patch)
        yield folder
    registry.clear()


def train(output: Path, **options: Any) -> None:
    """Trains ``net`` on scikit-learn's digits, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        zoo.train("net", "digits", recipe="default", output=output, device="cpu", **{"settings": SETTINGS, **options})
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def run(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a training that takes a second."""
    directory = tmp_path_factory.mktemp("trained") / "run"
    train(directory)
    return directory


@pytest.fixture
def hub(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is a hub with that training's weights, ``net.mine``."""
    folder = tmp_path / "hub"
    publish(folder, run / "model.safetensors")
    monkeypatch.setenv("ZOO_HUB", str(folder))
    registry.clear()
    yield folder
    registry.clear()


def publish(hub: Path, file: Path, top1: float = 50.0) -> None:
    """Makes ``hub`` one that has ``file`` as ``net.mine``, with a claimed score."""
    about, content = safetensors_file.metadata(file), file.read_bytes()
    hub.mkdir(exist_ok=True)
    (hub / "mine.safetensors").write_bytes(content)
    entry = Weights(
        file="mine.safetensors",
        arch="net",
        tag="mine",
        hub=str(hub),
        sha256=storage.sha256_of(file),
        origin=about["origin"],
        classes="digits",
        preprocess=msgspec.convert(about["preprocess"], zoo.spec.Preprocess),
        scores={"digits/test": Score(n=360, source="its author", top1=top1)},
    )
    (hub / "manifest.toml").write_text(render(entry))


def with_record(run: Path, file: Path, **changes: Any) -> Path:
    """Returns a copy of the run's weights whose record says something else; None takes a part away."""
    about = safetensors_file.metadata(run / "model.safetensors")
    about["run"] = {key: value for key, value in {**about["run"], **changes}.items() if value is not None}
    safetensors_file.write(safetensors_file.read(run / "model.safetensors"), file, about)
    return file


def recorded(directory: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((directory / "config.json").read_text())
    return config


def with_seed(run: Path, file: Path, seed: int) -> Path:
    return with_record(run, file, recipe=recorded(run)["recipe"] | {"seed": seed})


# ---- the same to the bit ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_resnet20_digits_is_trained_again_to_the_same_file_or_the_same_score_in_a_fresh_process(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "zoo", "reproduce", "resnet20.digits", "-o", str(tmp_path / "again"), "--json"]
    done = subprocess.run(words, capture_output=True, text=True)
    answer = json.loads(done.stdout)
    here = (torch.__version__, torch.backends.cpu.get_cpu_capability(), machine.cpu_name())
    if here == ("2.13.0+cpu", "AVX512", "AMD EPYC (family 26, model 2)"):  # where it was trained
        assert (done.returncode, answer["outcome"]) == (0, "file")
    assert (done.returncode == 0) == (answer["outcome"] != "different")
    if answer["outcome"] not in ("file", "tensors"):  # the 95% interval of the published score, 360 of 360
        assert answer["report"]["top1"] > 98.94


def test_a_run_directory_is_repeated_from_itself(run: Path, tmp_path: Path) -> None:
    done = zoo.reproduce(run, output=tmp_path / "again")
    assert (done.outcome, done.unequal, done.report) == ("file", 0, None)
    assert done.succeeded
    first, second = (safetensors_file.read(directory / "model.safetensors") for directory in (run, tmp_path / "again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    # ... and what came of it once more, by the name of its file
    again = zoo.reproduce(str(done.weights), output=tmp_path / "and again")
    assert (again.outcome, again.differences) == ("file", [])


def test_the_same_tensors_in_another_file_are_told_apart_from_the_same_file(run: Path, tmp_path: Path) -> None:
    about = safetensors_file.metadata(run / "model.safetensors")
    file = tmp_path / "other.safetensors"
    metadata = {safetensors_file.METADATA_KEY: json.dumps(about, indent=1)}
    safetensors.torch.save_file(safetensors_file.read(run / "model.safetensors"), file, metadata)
    done = zoo.reproduce(file, output=tmp_path / "again")
    assert (done.outcome, done.unequal) == ("tensors", 0)
    assert done.sha256 != done.expected
    assert done.succeeded


class StopAt(Silent):
    """Interrupts at one step of one epoch."""

    def __init__(self, epoch: int, step: int) -> None:
        self.moment = (epoch, step)

    def step(self, epoch: int, step: int, loss: float, lr: float) -> None:
        if (epoch, step) == self.moment:
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_reproduction_goes_on_to_the_same_file(run: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        zoo.reproduce(run, output=tmp_path / "again", display=StopAt(2, 3))
    assert not (tmp_path / "again" / "model.safetensors").exists()
    with pytest.raises(TrainingError, match="already contains a run"):
        zoo.reproduce(run, output=tmp_path / "again")
    assert zoo.reproduce(run, output=tmp_path / "again", resume=True).outcome == "file"


def test_a_paused_reproduction_says_how_to_go_on(run: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"unfinished run(?s:.)*--resume"):
        zoo.reproduce(run, output=tmp_path / "again", stop_after=1)


def test_weights_that_began_from_others_begin_from_them_again(run: Path, tmp_path: Path) -> None:
    first, moved = tmp_path / "first.safetensors", tmp_path / "moved.safetensors"
    first.write_bytes((run / "model.safetensors").read_bytes())
    settings = {**SETTINGS, "epochs": 1, "warmup_epochs": 0}
    train(tmp_path / "run", init=first, settings=settings)
    assert zoo.reproduce(tmp_path / "run", output=tmp_path / "again").outcome == "file"
    first.rename(moved)
    assert zoo.reproduce(tmp_path / "run", output=tmp_path / "third", init=moved).outcome == "file"
    moved.write_bytes(with_record(run, tmp_path / "other.safetensors", threads=7).read_bytes())
    with pytest.raises(TrainingError, match=r"from .*first.safetensors with sha256 (?s:.)*--init FILE"):
        zoo.reproduce(tmp_path / "run", output=tmp_path / "fourth", init=moved)


# ---- not the same -------------------------------------------------------------------------------------------------


def test_another_seed_gives_the_same_score_within_the_interval_or_is_different(
    run: Path, hub: Path, tmp_path: Path
) -> None:
    file = with_seed(run, tmp_path / "other.safetensors", seed=1)
    publish(hub, file)
    registry.clear()
    there = zoo.reproduce(file, output=tmp_path / "first").report  # its score, against the file's own
    assert there is not None
    publish(hub, file, top1=there.top1)
    registry.clear()
    close = zoo.reproduce("net.mine", output=tmp_path / "second")
    assert close.outcome == "score"
    assert close.succeeded
    assert close.unequal > 0
    assert close.comparison is not None
    assert "its author" in close.comparison.message
    publish(hub, file, top1=there.interval[1] + 5)
    answer = ask("reproduce", "net.mine", "-o", tmp_path / "third")
    assert answer.exit_code == 1
    assert answer.stdout.startswith("net.mine: different\n")
    assert "does not agree" in answer.stdout
    assert "Everything recorded is the same" in answer.stderr


def test_weights_without_a_claim_are_compared_with_their_own_score(run: Path, tmp_path: Path) -> None:
    done = zoo.reproduce(with_seed(run, tmp_path / "other.safetensors", seed=2), output=tmp_path / "again")
    own = zoo.evaluate("net", "digits", weights=run / "model.safetensors")
    assert done.comparison is not None
    assert f"claimed {own.top1:.3f}% (the original's, measured now)" in done.comparison.message


def test_what_was_not_the_same_is_listed(run: Path, tmp_path: Path) -> None:
    versions = recorded(run)["versions"]
    file = with_record(
        run,
        tmp_path / "other.safetensors",
        recipe=recorded(run)["recipe"] | {"seed": 1},
        versions=versions | {"torch": "1.0.0"},
        cpu={"name": "Abacus", "instructions": recorded(run)["cpu"]["instructions"]},
        threads=None,
    )
    answer = ask("reproduce", file, "-o", tmp_path / "again")
    listed = answer.stdout.partition("differences from the record:\n")[2].splitlines()
    assert [line.split("  ", 2)[1].strip() for line in listed] == ["torch", "threads", "CPU's name"]
    assert listed[0].endswith(f"1.0.0, here {versions['torch']}")
    assert listed[1].endswith(f"not recorded, here {torch.get_num_threads()}")
    assert listed[2].endswith(f"Abacus, here {recorded(run)['cpu']['name']}")


# ---- refused before training --------------------------------------------------------------------------------------


def test_weights_of_others_are_refused_without_a_download(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no run record(?s:.)*resnet20.c10, .*resnet20.digits"):
        zoo.reproduce("resnet18.tv_in1k", output=tmp_path / "again")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": None}, "model"),
        ({"recipe": None}, "recipe"),
        ({"recipe": {"telepathy": True}}, "telepathy"),
        ({"data": None}, "data"),
        ({"data": {}}, "so the training images are unknown"),
        (None, "no run record"),
    ],
)
def test_a_record_that_is_incomplete_or_of_a_later_zoo_is_refused_naming_the_part(
    run: Path, tmp_path: Path, changes: dict[str, Any] | None, named: str
) -> None:
    file = tmp_path / "mine.safetensors"
    if changes is None:
        about = safetensors_file.metadata(run / "model.safetensors") | {"run": None}
        safetensors_file.write(safetensors_file.read(run / "model.safetensors"), file, about)
    else:
        if changes.get("recipe"):
            changes = {"recipe": recorded(run)["recipe"] | changes["recipe"]}
        with_record(run, file, **changes)
    with pytest.raises(TrainingError, match=named):
        zoo.reproduce(file, output=tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_other_images_are_refused_before_training_unless_allowed(run: Path, tmp_path: Path) -> None:
    train = recorded(run)["data"]["train"]
    other = {"train": train | {"fingerprint": f"sha256:{'0' * 64}"}}
    file = with_record(run, tmp_path / "mine.safetensors", data=other)
    with pytest.raises(DataError, match=rf"sha256:0+, here 1,437 images {train['fingerprint']}(?s:.)*--allow-other"):
        zoo.reproduce(file, output=tmp_path / "again")
    assert not (tmp_path / "again").exists()
    answer = ask("reproduce", file, "-o", tmp_path / "again", "--allow-other-data", "--json")
    assert answer.exit_code == 0, answer.output
    done = json.loads(answer.stdout)
    assert done["outcome"] == "file"  # the images are the same after all, whatever the record says
    assert [row["what"] for row in done["differences"]] == ["train images"]


def test_a_data_set_that_nobody_knows_here_is_asked_for(run: Path, tmp_path: Path) -> None:
    data = {"train": recorded(run)["data"]["train"] | {"name": "holiday_pictures"}}
    file = with_record(run, tmp_path / "mine.safetensors", data=data)
    with pytest.raises(DataError, match=r"holiday_pictures(?s:.)*--data PATH"):
        zoo.reproduce(file, output=tmp_path / "again")
    assert zoo.reproduce(file, output=tmp_path / "again", data="digits").outcome == "file"


def test_a_directory_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="not a finished run"):
        zoo.reproduce(tmp_path, output=tmp_path / "again")


def test_a_run_is_not_compared_with_itself(run: Path) -> None:
    with pytest.raises(TrainingError, match=r"is the directory of model\.safetensors itself"):
        zoo.reproduce(run, output=run, resume=True)


# ---- as it was done -----------------------------------------------------------------------------------------------


def test_threads_are_as_recorded_and_as_before_afterwards(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    file = with_record(run, tmp_path / "mine.safetensors", threads=3)
    with caplog.at_level(logging.WARNING, "zoo"):
        zoo.reproduce(file, output=tmp_path / "again")
    assert "It used 3 threads, but there are 2 cores" in caplog.text
    assert recorded(tmp_path / "again")["threads"] == 3
    assert torch.get_num_threads() == before


@pytest.mark.first(3)
@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"device": "abacus"}, "It was trained on abacus, which is not available here"),
        ({"processes": 4}, "It used 4 processes, this run uses 1"),
        ({"earlier": [{"threads": 5}]}, "interrupted and resumed on another machine"),
        ({"threads": None}, "has no number of threads"),
    ],
)
def test_what_stands_in_the_way_is_said_beforehand(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], warning: str
) -> None:
    file = with_record(run, tmp_path / "mine.safetensors", **changes)
    with caplog.at_level(logging.WARNING, "zoo"), pytest.raises(KeyboardInterrupt):
        zoo.reproduce(file, output=tmp_path / "again", display=StopAt(1, 1))
    assert warning in caplog.text


def test_a_run_that_was_resumed_elsewhere_says_so(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(machine, "cpu_name", lambda: "Abacus")
        train(tmp_path / "run", stop_after=1)
    train(tmp_path / "run", resume=True, stop_after=1)
    train(tmp_path / "run", resume=True)
    (earlier,) = safetensors_file.metadata(tmp_path / "run" / "model.safetensors")["run"]["earlier"]
    assert earlier.keys() == set(PLACE)
    assert earlier["cpu"]["name"] == "Abacus"
    assert recorded(tmp_path / "run")["cpu"]["name"] == machine.cpu_name() != "Abacus"


def test_the_record_says_where_it_was_done(run: Path) -> None:
    config = recorded(run)
    assert set(PLACE) < config.keys()
    assert config["threads"] == 1
    assert config["versions"].keys() == {"zoo", "torch", "python", "timm", config["distribution"]}
    assert config["cpu"]["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert record.read(config, "it").recipe.seed == 0


def test_the_record_names_the_commit_of_a_checkout_and_none_of_an_installed_zoo(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    code = tmp_path / "zoo" / "__init__.py"
    code.parent.mkdir()
    code.write_text("")
    assert machine.commit(code) == ""
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "of something else")
    machine.commit.cache_clear()
    assert machine.commit(code) == ""  # untracked, as an environment within another project is
    machine.commit.cache_clear()
    git("add", ".")
    git("commit", "-q", "-m", "the code")
    head = git("rev-parse", "HEAD").strip()
    assert machine.commit(code) == head
    code.write_text("1")
    machine.commit.cache_clear()
    assert machine.commit(code) == f"{head}-dirty"


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (None, ""),
        ({"url": "file:///here", "dir_info": {"editable": True}}, "uncommitted"),
        ({"url": "file:///here", "dir_info": {}}, "uncommitted"),
        ({"url": "https://there", "vcs_info": {"vcs": "git", "commit_id": "12ab"}}, "12ab"),
        ({"url": "https://there/pet.whl", "archive_info": {}}, ""),
    ],
)
def test_what_pip_noted_says_which_code_was_installed(
    source: dict[str, Any] | None, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file ``direct_url.json`` (PEP 610) is there unless a distribution came from an index by its version."""
    distributions.bring(monkeypatch, tmp_path, "zoo-pet", {}, {"pet_code.py": ""})
    [folder] = tmp_path.glob("zoo_pet-*.dist-info")
    if source is not None:
        (folder / "direct_url.json").write_text(json.dumps(source))
    assert machine.code_of("zoo-pet", "pet_code") == code


def test_the_record_names_the_libraries_that_the_family_uses() -> None:
    row = zoo.registry.current().find("hmax").model
    versions = record.place(torch.device("cpu"), row.requires)["versions"]
    assert versions["scikit-learn"] == version("scikit-learn")


def test_info_shows_how_weights_were_trained(run: Path) -> None:
    answer = ask("info", "resnet20.digits")
    about = safetensors_file.metadata(zoo.fetch("resnet20.digits"))["run"]
    assert f"digits, 40 epochs, seed {about['recipe']['seed']}" in answer.stdout
    assert f"1,437 images of digits/train, {about['data']['train']['fingerprint']}" in answer.stdout
    assert about["command"] in answer.stdout
    training = json.loads(ask("info", "resnet20.digits", "--json").stdout)["training"]
    assert training["command"] == about["command"]
    fitted = json.loads(ask("info", "hmax.caltech101", "--json").stdout)["training"]
    assert fitted["recipe"] == "paper_svm, seed 0", "it has no epochs"
    assert "training" not in json.loads(ask("info", "resnet18.tv_in1k", "--json").stdout)


def test_a_processor_is_told_by_name_family_and_model(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\ncpu family\t: 6\nmodel\t\t: 85\nmodel name\t: Slide Rule\n\nmodel name\t: Other\n")
    assert machine.cpu_name(file) == "Slide Rule (family 6, model 85)"
    assert machine.cpu_name(tmp_path / "missing")


def test_resuming_does_not_depend_on_the_order_of_the_record(site: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", stop_after=1)
    config = recorded(tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text(json.dumps(dict(reversed(config.items())) | {"mood": "good"}))
    train(tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "model.safetensors").exists()


# ---- the command --------------------------------------------------------------------------------------------------


def test_the_command_says_which_holds(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = ask("reproduce", run)
    assert answer.exit_code == 0, answer.stderr
    assert answer.stdout.splitlines()[0] == f"{run}: bit-identical, the same file"
    assert (tmp_path / "reproduced" / run.name / "model.safetensors").exists()
    assert "differences from the record" not in answer.stdout


def test_an_interrupted_command_says_how_to_go_on(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "again"

    def interrupt(*args: object, **options: object) -> None:
        output.mkdir()
        (output / "checkpoint.safetensors").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(reproduce, "reproduce", interrupt)
    answer = ask("reproduce", run, "-o", output, "--data", "digits", "--device", "cpu")
    assert answer.exit_code == 130
    assert f"zoo reproduce {run} --data digits --device cpu -o {output} --resume" in answer.stderr
