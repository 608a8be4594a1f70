"""A queue of trainings: all are done, whatever happens to one of them or to the process, and done things stay."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import Result
from support.children import wait_for
from support.command import ask_warm

from zoo.data import Affine
from zoo.data.augmentation import Augmentation
from zoo.errors import RecipeError
from zoo.training import checkpoint, choose
from zoo_bulk import queue
from zoo_bulk.queue import State, Training
from zoo_resnet import plugin

pytest.importorskip("timm", reason="needs zoo-vision[train]")
pytest.importorskip("sklearn", reason="needs zoo-vision[data]")

TINY = 'model = "resnet8"\ndata = "digits"\n'
TWO = (
    f'[[train]]\nname = "first"\n{TINY}settings = {{ epochs = 2, warmup_epochs = 1 }}\n\n'
    f'[[train]]\nname = "second"\n{TINY}settings = {{ epochs = 4, warmup_epochs = 1, seed = 1 }}\n'
)


def write(text: str) -> None:
    Path("queue.toml").write_text(text, encoding="utf-8")


def ask(*words: str) -> Result:
    return ask_warm("train", "--queue", "queue.toml", "-o", "runs", *words)


def shown(*words: str) -> dict[str, Any]:
    return dict(json.loads(ask("--status", "--json", *words).stdout))


def begin(notes: int = subprocess.DEVNULL) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "zoo", "train", "--queue", "queue.toml", "-o", "runs", "--threads", "1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=notes, text=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"expected tables \[\[train\]\], got none"),
        ("[[run]]\nname = 'a'", r"expected tables \[\[train\]\], got run"),
        ("[[train]]\nname = 'a'\nmodel = 'resnet8'", "missing required field `data`"),
        ("[[train]]\nname = 'a'\nmodel = 'resnet8'\ndata = 'digits'\nepochs = 3", "unknown field `epochs`"),
        (
            "[[train]]\nname = '../a'\nmodel = 'resnet8'\ndata = 'digits'",
            r"name = '\.\./a': expected a directory's name",
        ),
        ("[[train]]\nname = 'a'\ndata = 'digits'", "a: expected a model, or init"),
        ("[[train]\n", "queue.toml is not a queue of trainings"),
        (f"[[train]]\nname = 'a'\n{TINY}\n[[train]]\nname = 'a'\n{TINY}", "two trainings of one name: a"),
        (f"[[train]]\nname = 'a'\nseeds = 1\n{TINY}", "seeds"),
        (f"[[train]]\nname = 'a'\nseeds = 2\n{TINY}settings = {{ seed = 1 }}", "seeds and settings.seed exclude"),
        (
            f"[[train]]\nname = 'a'\nseeds = 2\n{TINY}\n[[train]]\nname = 'a/seed1'\n{TINY}",
            "two trainings of one name: a/seed1",
        ),
    ],
)
def test_a_file_that_is_no_queue_is_refused_with_the_reason(text: str, said: str, inside: Path) -> None:
    write(text)
    with pytest.raises(RecipeError, match=said):
        queue.read(Path("queue.toml"))
    assert ask().exit_code == 2


@pytest.mark.slow
def test_a_queue_is_trained_by_another_engine_as_well(inside: Path) -> None:
    pytest.importorskip("submitit", reason="needs zoo-vision[submitit]")
    write(TWO)
    done = ask("--engine", "submitit", "--engine-arg", "cluster=local")
    assert done.exit_code == 0, done.output
    assert [row["status"] for row in shown()["trainings"]] == ["done", "done"]
    assert Path("runs", "first", "model.safetensors").is_file()


@pytest.mark.slow
def test_the_recorded_command_of_a_training_repeats_it_alone(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the byte of the file, which holds the command itself; the run has its name, and no folder of this machine."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    settings = (
        'epochs = 1, warmup_epochs = 0.5, lr = 1e-2, schedule = "cosine", augment.flip = true, freeze = ["conv1"]'
    )
    write(f'[[train]]\nname = "first"\n{TINY}recipe = "digits"\ndevice = "cpu"\nsettings = {{ {settings} }}\n')
    done = ask("--threads", "1")
    assert done.exit_code == 0, done.output
    file = Path("runs", "first", "model.safetensors")
    command = json.loads(Path("runs", "first", "config.json").read_text())["command"]
    assert str(inside) not in command
    first = file.read_bytes()
    Path("runs").rename("before")
    program, *words = shlex.split(command)
    assert program == "zoo"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-m", "zoo", *words], env=environment, check=True, capture_output=True)
    assert file.read_bytes() == first


@pytest.mark.slow
def test_a_training_that_starts_from_weights_need_not_name_its_model(inside: Path) -> None:
    write('[[train]]\nname = "first"\ninit = "resnet20.digits"\ndata = "digits"\nsettings = { epochs = 1 }\n')
    done = ask("--threads", "1")
    assert done.exit_code == 0, done.output
    record = json.loads(Path("runs", "first", "config.json").read_text())
    assert record["model"] == "resnet20"
    assert "--init resnet20.digits" in record["command"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "resnet8", "--queue", "queue.toml", "-o", "runs"], "MODEL and --queue exclude each other"),
        (["train", "--queue", "queue.toml", "--data", "digits", "-o", "runs"], "--data and --queue exclude each other"),
        (["train", "--queue", "queue.toml", "--seeds", "2", "-o", "runs"], "--seeds and --queue exclude each other"),
        (["train", "--seeds", "2", "--queue", "queue.toml", "-o", "runs"], "--queue and --seeds exclude each other"),
        (
            ["train", "resnet8", "--data", "digits", "--seeds", "2", "--set", "seed=1", "-o", "runs"],
            "--seeds and --set seed=... exclude each other",
        ),
        (
            ["train", "resnet8", "--data", "digits", "--seeds", "2", "--resume", "-o", "x"],
            "--resume and --seeds exclude",
        ),
        (["train", "resnet8", "--data", "digits", "--seeds", "1", "-o", "runs"], "1 is not in the range x>=2"),
        (["train", "--data", "digits", "--seeds", "2", "-o", "runs"], "Missing argument 'MODEL'"),
        (["train", "resnet8", "--data", "digits", "--at-once", "2", "-o", "run"], "--at-once needs --queue"),
        (["train", "resnet8", "--data", "digits", "--status", "-o", "run"], "--status needs --queue"),
        (["train", "resnet8", "--data", "digits", "--engine", "ray", "-o", "run"], "--engine needs --queue"),
    ],
)
def test_options_that_would_have_no_effect_are_refused(words: list[str], said: str, inside: Path) -> None:
    write(TWO)
    done = ask_warm(*words)
    assert (done.exit_code, said in done.stderr) == (2, True), done.stderr


def test_the_state_of_a_training_is_read_from_its_directory(tmp_path: Path) -> None:
    training = Training("one", "digits", model="resnet8", settings={"epochs": 10})
    assert queue.states([training], tmp_path) == [State("one", "waiting", epochs=10)]
    run = tmp_path / "one"
    run.mkdir()
    (run / "config.json").write_text(json.dumps({"recipe": {"epochs": 10}}))
    (run / "log.jsonl").write_text('{"epoch": 4, "seconds": 2.5, "train_top1": 50.0, "val_top1": 40.0}\n')
    progress = {"epoch": 4, "epochs": 10, "val_top1": 40.0, "train_top1": 50.0}
    assert queue.states([training], tmp_path) == [State("one", "paused", seconds_left=15.0, **progress)]
    (run / "model.safetensors").touch()  # of fewer epochs, as a longer schedule finds it
    assert queue.states([training], tmp_path)[0].status == "paused"
    (run / "log.jsonl").write_text('{"epoch": 10, "seconds": 2.5}\n')
    assert queue.states([training], tmp_path) == [State("one", "done", epoch=10, epochs=10)]


def test_trainings_at_once_end_with_the_longest_or_when_all_work_is_shared() -> None:
    found = [State("a", "running", seconds_left=60.0), State("b", "waiting", seconds_left=20.0), State("c", "done")]
    assert queue.seconds_left(found) == 80
    assert queue.seconds_left(found, at_once=2) == 60
    assert queue.seconds_left([*found, State("d", "waiting")]) is None


@pytest.mark.slow
def test_the_others_are_trained_and_a_changed_list_is_told(inside: Path) -> None:
    short = f"{TINY}settings = {{ epochs = 1, warmup_epochs = 0 }}\n"
    write(f"[[train]]\nname = 'bad'\nmodel = 'resnet9'\ndata = 'digits'\n[[train]]\nname = 'good'\n{short}")
    done = ask("--threads", "1")
    assert (done.exit_code, "bad: failed: Unknown model 'resnet9'." in done.stderr) == (1, True)
    assert "Did you mean resnet" in Path("runs/bad.log").read_text()
    bad, good = shown()["trainings"]
    assert (bad["status"], bad["reason"]) == ("failed", "Unknown model 'resnet9'.")
    assert (good["status"], good["epoch"], good["epochs"]) == ("done", 1, 1)
    assert good["train_top1"] > 15  # of ten classes
    # The list says something else now: what is done stays, and what was wrong is tried again.
    write(f"[[train]]\nname = 'bad'\nmodel = 'resnet9'\ndata = 'digits'\n[[train]]\nname = 'good'\n{short}seed = 1\n")
    assert ask().exit_code == 2


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_queue_that_was_killed_goes_on_and_gives_the_same_files(how: signal.Signals, inside: Path) -> None:
    write(TWO)
    process = begin()
    assert process.wait() == 0
    Path("runs").rename("unbroken")
    Path("runs").mkdir()
    Path("runs/second.failed").write_text("An earlier try failed.")
    process = begin()
    wait_for(Path("runs/second/checkpoint.safetensors").exists)
    assert shown()["running"] == 1
    process.send_signal(how)
    assert process.wait(90) == (-how if how == signal.SIGKILL else 130)
    if how == signal.SIGKILL:
        wait_for(lambda: shown()["running"] == 0)
    states = {state["name"]: state["status"] for state in shown()["trainings"]}
    assert states == {"first": "done", "second": "paused"}
    written = Path("runs/first/model.safetensors").stat().st_mtime_ns
    process = begin()
    assert process.wait() == 0
    assert Path("runs/first/model.safetensors").stat().st_mtime_ns == written
    for name in ("first", "second"):
        same = [Path(folder, name, "model.safetensors").read_bytes() for folder in ("unbroken", "runs")]
        assert same[0] == same[1]


@pytest.mark.slow
def test_one_that_another_process_trains_is_left_to_it_and_resumed_after_the_others(inside: Path) -> None:
    write(f"[[train]]\nname = 'long'\n{TINY}settings = {{ epochs = 60 }}\n{TWO}")
    other = begin()
    wait_for(Path("runs/long/checkpoint.safetensors").exists)
    process = begin(subprocess.PIPE)
    assert process.stderr.readline() == "long: left to the process that is training it\n"
    other.send_signal(signal.SIGINT)
    assert other.wait(90) == 130
    _, notes = process.communicate()
    assert process.returncode == 0
    assert [line.split(":")[0] for line in notes.splitlines() if ": started" in line] == ["first", "second", "long"]
    assert shown()["done"] == 3


@pytest.mark.slow
def test_two_queues_share_a_list_and_train_each_once(inside: Path) -> None:
    long = f"{TINY}settings = {{ epochs = 60 }}\n"
    write(f"[[train]]\nname = 'one'\n{long}[[train]]\nname = 'two'\n{long}")
    first = begin(subprocess.PIPE)
    wait_for(Path("runs/one/checkpoint.safetensors").exists)
    second = begin(subprocess.PIPE)
    notes = [process.communicate()[1].splitlines() for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0)
    elsewhere = "left to the process that is training it"
    assert [line for line in notes[0] if elsewhere in line] == [f"two: {elsewhere}"]
    assert [line for line in notes[1] if elsewhere in line] == [f"one: {elsewhere}"]
    assert shown()["done"] == 2


def test_an_entry_with_seeds_is_a_training_for_each(tmp_path: Path) -> None:
    file = tmp_path / "queue.toml"
    file.write_text(f"[[train]]\nname = 'a'\nseeds = 3\n{TINY}settings = {{ lr = 0.1 }}\n")
    expected = [(f"a/seed{seed}", {"lr": 0.1, "seed": seed}) for seed in range(3)]
    assert [(training.name, training.settings) for training in queue.read(file)] == expected


@pytest.mark.slow
def test_trainings_of_several_seeds_are_those_of_the_single_command_and_go_on_after_a_kill(
    inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the byte: a run of the group is the run that its recorded command makes, also of one that was killed."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = ["train", "resnet8", "--data", "digits", "--set", "epochs=2", "--set", "warmup_epochs=1"]
    command = [sys.executable, "-m", "zoo", *words, "--seeds", "2", "-o", "runs/x", "--threads", "1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(Path("runs/x/seed1/checkpoint.safetensors").exists)
    process.kill()
    process.wait()
    first = Path("runs/x/seed0/model.safetensors").stat().st_mtime_ns
    listed = [*words, "--seeds", "2", "-o", "runs/x", "--threads", "1"]
    wait_for(lambda: not json.loads(ask_warm(*listed, "--status", "--json").stdout)["running"])
    done = ask_warm(*listed, "--json")
    assert (done.exit_code, json.loads(done.stdout)["done"]) == (0, 2), done.output
    assert Path("runs/x/seed0/model.safetensors").stat().st_mtime_ns == first, "what is done is not trained again"
    program, *again = shlex.split(json.loads(Path("runs/x/seed1/config.json").read_text())["command"])
    assert (program, again[-4:]) == ("zoo", ["--set", "seed=1", "-o", "runs/seed1"])
    subprocess.run([sys.executable, "-m", "zoo", *again], env=environment, check=True, capture_output=True)
    files = [Path(folder, "model.safetensors").read_bytes() for folder in ("runs/x/seed1", "runs/seed1")]
    assert files[0] == files[1]
    assert files[0] != Path("runs/x/seed0/model.safetensors").read_bytes()


def test_a_setting_changes_one_field_of_a_table_as_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "queue.toml"
    file.write_text(
        '[[train]]\nname = "a"\nmodel = "resnet8"\ndata = "digits"\n'
        'settings = { epochs = 1, augment.flip = "alternate", augment.affine = { degrees = 5.0 } }\n'
    )
    [training] = queue.read(file)
    assert training.settings == {"epochs": 1, "augment.flip": "alternate", "augment.affine.degrees": 5.0}
    recipe = choose(plugin, "resnet8", "digits", "fast_c10", training.settings)
    assert recipe.augment == Augmentation(pad_crop=4, flip="alternate", affine=Affine(degrees=5.0))


def test_a_training_of_a_list_writes_a_checkpoint_every_so_many_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Expects checkpoints of one epoch with 22 steps after 5, 10, 15 and 20 of them, and after the epoch."""
    positions = []
    save = checkpoint.save
    keep = lambda file, position, *rest: (positions.append(position["step"]), save(file, position, *rest))  # noqa: E731
    monkeypatch.setattr(checkpoint, "save", keep)
    file = tmp_path / "queue.toml"
    file.write_text(
        f"[[train]]\nname = 'a'\n{TINY}checkpoint_every = 5\nsettings = {{ epochs = 1, warmup_epochs = 0 }}\n"
    )
    [training] = queue.read(file)
    assert queue.train(msgspec.to_builtins(training), str(tmp_path / "a")) == "trained"
    assert positions == [5, 10, 15, 20, 0]  # 0: the next epoch begins
