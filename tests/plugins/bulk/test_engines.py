"""Engines: whichever runs the jobs, the outcomes are the same, and what is done survives whoever is killed."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import slurm
from support.children import wait_for

from zoo.errors import MissingExtraError, SpecError, UnknownNameError
from zoo_bulk import clusters
from zoo_bulk import jobs as engines
from zoo_bulk.jobs import Job, Outcome, Store

FUNCTIONS = "support.job_functions"
ON_SUBMITIT: dict[str, Any] = {"engine": "submitit", "settings": {"cluster": "local"}}


def job(folder: Path, function: str, name: str, /, **arguments: Any) -> Job:
    return Job(name, f"{FUNCTIONS}:{function}", arguments, folder / f"{name}.log", key=name)


def mixed(folder: Path) -> list[Job]:
    """Jobs of which two fail, one of them by a crash."""
    good = [job(folder, "square", f"square{number}", number=number) for number in range(4)]
    return [*good, job(folder, "fail", "crash", how="crash"), job(folder, "fail", "error", how="error")]


EXPECTED = {
    **{f"square{number}": ("done", number * number) for number in range(4)},
    "crash": ("failed", "its process crashed: signal SIGSEGV"),
    "error": ("failed", "no such images"),
}
"""What each of :func:`mixed` ends with."""


def run(folder: Path, jobs: list[Job], **options: Any) -> dict[str, Outcome]:
    seen: list[Outcome] = []
    engines.run(jobs, Store(folder), ended=seen.append, **options)
    assert len({outcome.job.name for outcome in seen}) == len(seen) == len(jobs)
    return {outcome.job.name: outcome for outcome in seen}


def check(folder: Path, **options: Any) -> None:
    """Runs :func:`mixed`, and sees that each outcome is as expected, with what it printed in its log, and stored."""
    jobs = mixed(folder)
    outcomes = run(folder, jobs, **options)
    results = {
        name: (outcome.status, outcome.result["square"] if outcome.result else outcome.reason)
        for name, outcome in outcomes.items()
    }
    assert results == EXPECTED
    assert (folder / "square3.log").read_text() == "squaring 3\n"
    for each in jobs:
        stored = Store(folder).find(each)
        assert (stored.status, stored.result, stored.reason) == outcomes[each.name][1:4]


def test_the_local_engine_stores_every_outcome(tmp_path: Path) -> None:
    check(tmp_path)


def test_submitit_stores_every_outcome(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="needs zoo-vision[submitit]")
    check(tmp_path / "jobs", **ON_SUBMITIT)


@pytest.mark.slow
def test_submitit_submits_an_array_to_slurm_with_the_settings_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="needs zoo-vision[submitit]")
    commands = slurm.install(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    settings = {"slurm_partition": "gpu", "gpus_per_node": 1, "timeout_min": 240}
    check(tmp_path / "jobs", engine="submitit", settings=settings, at_once=2, threads=3)
    script = (commands / "submitted.sh").read_text()
    asked = ("--array=0-1", "--partition=gpu", "--gpus-per-node=1", "--time=240", "--cpus-per-task=3", "--signal=USR2@")
    assert [option for option in asked if f"#SBATCH {option}" not in script] == []
    task = json.loads((tmp_path / "submitit" / "submitted.json").read_text())
    assert sorted(map(len, task.values())) == [3, 3]


@pytest.fixture
def on_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Options of a run on the Slurm of this machine, if there is one, or on commands that act like its."""
    pytest.importorskip("submitit", reason="needs zoo-vision[submitit]")
    try:
        subprocess.run(["sinfo"], capture_output=True, check=True, timeout=3)
    except (OSError, subprocess.SubprocessError):
        commands = slurm.install(tmp_path / "bin")
        monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(clusters, "_ASK", 0.3)
    return {"engine": "submitit", "settings": {"cluster": "slurm"}}


def tasks_of(folder: Path) -> list[str]:
    return list(json.loads((folder / "submitit" / "submitted.json").read_text()))


def test_jobs_that_slurm_cancels_have_failed_without_accounting(tmp_path: Path, on_slurm: dict[str, Any]) -> None:
    folder = tmp_path / "jobs"
    jobs = [job(folder, "note", name, folder=str(tmp_path), name=name, seconds=60) for name in ("one", "two")]

    def cancel() -> None:
        if (tmp_path / "one").exists() and not (tmp_path / "bin" / "cancelled").exists():
            subprocess.run(["scancel", *tasks_of(tmp_path)], check=False)

    outcomes = run(folder, jobs, tick=cancel, at_once=1, **on_slurm)
    assert {outcome.status for outcome in outcomes.values()} == {"failed"}
    assert "ended in the state CANCELLED; its output is in" in outcomes["one"].reason


@pytest.mark.slow
def test_a_task_that_slurm_suspends_has_not_ended(tmp_path: Path, on_slurm: dict[str, Any]) -> None:
    note = job(tmp_path / "jobs", "note", "note", folder=str(tmp_path), name="begun", seconds=1)
    left = ["resume", "suspend"]
    suspended = 0.0

    def suspend() -> None:
        nonlocal suspended
        if left and (tmp_path / "begun").exists() and time.monotonic() - suspended > 2:
            subprocess.run(["scontrol", left.pop(), *tasks_of(tmp_path)], check=True)
            suspended = time.monotonic()

    assert run(tmp_path / "jobs", [note], tick=suspend, **on_slurm)["note"].status == "done"
    assert not left, "it was suspended and resumed"


@pytest.mark.slow
def test_ray_does_a_job(tmp_path: Path, ray_alone: None) -> None:
    """One of what the next test does: starting Ray is most of it."""
    outcomes = run(tmp_path, [job(tmp_path, "square", "square7", number=7)], engine="ray", at_once=1)
    assert outcomes["square7"].result["square"] == 49


@pytest.mark.slow
def test_ray_stores_every_outcome(tmp_path: Path, ray_alone: None) -> None:
    tmp_path.joinpath("jobs").mkdir()
    check(tmp_path / "jobs", engine="ray")


@pytest.fixture
def ray_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="needs zoo-vision[ray]")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # it would write a token into the home directory
    monkeypatch.setenv("RAY_ADDRESS", "local")


PARENT = """
import sys
from pathlib import Path
from zoo_bulk import jobs as engines
from zoo_bulk.jobs import Job, Store
folder, engine, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
settings = {"cluster": "local"} if engine == "submitit" else {}
jobs = [
    Job(name, "support.job_functions:note", {"folder": str(folder), "name": name, "seconds": seconds},
        folder / f"{name}.log", key=name)
    for name in "abcd"
]
store = Store(folder / "jobs")
left = [job for job in jobs if store.find(job) is None]
print(len(left), flush=True)
engines.run(left, store, engine=engine, settings=settings, at_once=1)
"""


def start(folder: Path, engine: str, seconds: float = 0.25) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", PARENT, str(folder), engine, str(seconds)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def calls(folder: Path) -> list[int]:
    """Returns how often each of the four jobs was begun."""
    return [len((folder / name).read_text().splitlines()) for name in "abcd"]


@pytest.mark.parametrize("engine", ["local", pytest.param("submitit", marks=pytest.mark.slow)])
def test_a_list_that_is_killed_goes_on_and_does_nothing_twice_that_was_done(engine: str, tmp_path: Path) -> None:
    if engine == "submitit":
        pytest.importorskip("submitit", reason="needs zoo-vision[submitit]")
    first = start(tmp_path, engine)
    wait_for((tmp_path / "jobs" / "b.json").exists)
    first.kill()
    first.communicate()
    second = start(tmp_path, engine, seconds=0.01)
    left, _ = second.communicate(timeout=60)
    assert second.returncode == 0
    assert int(left) <= 2, "two were done"
    # The tasks of submitit outlive their parent, and are found again.
    assert calls(tmp_path)[:2] == [1, 1]
    assert max(calls(tmp_path)) <= (1 if engine == "submitit" else 2)


@pytest.mark.slow
def test_a_task_that_is_preempted_and_requeued_goes_on_with_what_is_left(tmp_path: Path) -> None:
    """Slurm sends SIGUSR2 before it takes the node away; submitit's local executor requeues as Slurm does."""
    pytest.importorskip("submitit", reason="needs zoo-vision[submitit]")
    folder = tmp_path / "jobs"
    names = {"folder": str(tmp_path)}
    jobs = [job(folder, "square", "square1", number=1), job(folder, "refuse_signals", "long", name="begun", **names)]
    is_sent = False

    def preempt() -> None:
        nonlocal is_sent
        if not is_sent and (tmp_path / "begun").exists():
            [controller] = json.loads((tmp_path / "submitit" / "submitted.json").read_text())
            [task] = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
            os.kill(int(task), signal.SIGUSR2)
            is_sent = True

    seen: list[Outcome] = []
    engines.run(jobs, Store(folder), at_once=1, tick=preempt, ended=seen.append, **ON_SUBMITIT)
    assert [(outcome.job.name, outcome.status) for outcome in seen] == [("square1", "done"), ("long", "done")]
    assert (folder / "square1.log").read_text().count("squaring") == 1


@pytest.mark.slow
def test_a_task_that_ends_without_an_outcome_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="needs zoo-vision[submitit]")
    folder = tmp_path / "jobs"
    note = job(folder, "note", "note", folder=str(tmp_path), name="begun", seconds=60)

    def end() -> None:
        if (tmp_path / "begun").exists():
            [controller] = json.loads((tmp_path / "submitit" / "submitted.json").read_text())
            children = Path(f"/proc/{controller}/task/{controller}/children")
            for task in children.read_text().split() if children.exists() else ():
                os.kill(int(task), signal.SIGKILL)

    seen: list[Outcome] = []
    engines.run([note], Store(folder), tick=end, ended=seen.append, **ON_SUBMITIT)
    assert seen[0].status == "failed"
    assert "its task" in seen[0].reason
    assert "its output is in" in seen[0].reason


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Ray cluster of two nodes on this machine, each with one processor, and this process connected to it."""
    pytest.importorskip("ray", reason="needs zoo-vision[ray]")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 << 20}
    nodes = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    nodes.add_node(**small)
    nodes.wait_for_nodes()
    yield nodes
    nodes.shutdown()


@pytest.mark.slow
def test_ray_does_every_job_although_a_worker_and_a_node_are_killed(tmp_path: Path, cluster: Any) -> None:
    folder = tmp_path / "jobs"
    folder.mkdir()
    names = [f"job{number}" for number in range(8)]
    jobs = [job(folder, "note", name, folder=str(tmp_path), name=name, seconds=1.0) for name in names]
    killed: list[str] = []

    def kill(outcome: Outcome) -> None:
        if not killed:
            [first, *_] = [
                name for name in names if (tmp_path / name).exists() and not (folder / f"{name}.json").exists()
            ]
            child = (tmp_path / first).read_text().split()[0]
            os.kill(parent_of(child), signal.SIGKILL)
            killed.append("worker")
        elif len(killed) == 1:
            cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
            killed.append("node")

    outcomes: list[Outcome] = []
    engines.run(
        jobs,
        Store(folder),
        engine="ray",
        settings={"address": cluster.address},
        ended=lambda outcome: (outcomes.append(outcome), kill(outcome))[0],
    )
    assert killed == ["worker", "node"]
    assert sorted(outcome.result for outcome in outcomes) == names
    assert {outcome.status for outcome in outcomes} == {"done"}


def test_the_environment_that_ray_shows_to_all_holds_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_DATA", "/data")
    for name in ("HF_TOKEN", "ZOO_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x y z")
    environment = clusters._environment()
    assert environment["ZOO_DATA"] == "/data"
    assert "x y z" not in environment.values()


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a Ray cluster whose only processor is on a node that sees an empty folder as ``data``."""
    pytest.importorskip("ray", reason="needs zoo-vision[ray]")
    (tmp_path / "data").mkdir()
    mount = f"mount -t tmpfs none {tmp_path / 'data'}"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode != 0:
        pytest.skip("needs mounts of its own: root on Linux")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    store = 80 << 20
    head = {"num_cpus": 0, "object_store_memory": store, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    words = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={cluster.address}", "--num-cpus=1"]
    command = shlex.join([*words, f"--object-store-memory={store}", "--block"])
    node = subprocess.Popen(["unshare", "-m", "sh", "-c", f"{mount} && exec {command}"], stdout=subprocess.DEVNULL)
    yield cluster.address
    node.terminate()
    node.wait()
    cluster.shutdown()


@pytest.mark.slow
@pytest.mark.may_skip
def test_ray_brings_files_to_a_node_that_lacks_them(tmp_path: Path, apart: str) -> None:
    file = str(tmp_path / "data" / "images" / "one.txt")
    Path(file).parent.mkdir()
    Path(file).write_text("pixels")
    without, brought = (job(tmp_path, "read", name, file=file) for name in ("without", "brought"))
    outcomes = run(
        tmp_path, [without, brought._replace(files=(file,))], engine="ray", settings={"address": apart}, at_once=1
    )
    assert outcomes["without"].reason.startswith("[Errno 2] No such file"), "the node has a folder of its own"
    assert outcomes["brought"].result == "pixels"


def parent_of(process: str) -> int:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1])


def test_an_engine_that_there_is_not_is_refused_with_the_names_of_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown engine 'rays'.*\n.*ray"):
        engines.run([], Store(tmp_path), engine="rays")


@pytest.mark.parametrize(
    ("engine", "settings"), [("local", {"nodes": 2}), ("submitit", {"cluster": "local", "nods": 2})]
)
def test_a_setting_that_an_engine_does_not_have_is_refused(
    engine: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match="nod"):
        engines.run([], Store(tmp_path / "jobs"), engine=engine, settings=settings)


@pytest.mark.parametrize("engine", ["submitit", "ray"])
def test_an_engine_whose_library_is_missing_says_what_to_install(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, engine, None)
    with pytest.raises(MissingExtraError, match=rf"(?s)needs {engine}.*pip install 'zoo-vision\[{engine}\]'"):
        engines.run([], Store(tmp_path), engine=engine)


def test_a_damaged_file_of_the_store_is_no_outcome(tmp_path: Path) -> None:
    store, square = Store(tmp_path), job(tmp_path, "square", "one")
    store.put(Outcome(square, "done", {"square": 1}, "", 0.1, 1 << 20))
    assert store.find(square) == Outcome(square, "done", {"square": 1}, "", 0.1, 1 << 20)
    whole = (tmp_path / "one.json").read_bytes()
    (tmp_path / "one.json").write_bytes(whole[: len(whole) // 2])
    assert store.find(square) is None


def test_a_job_that_was_stopped_has_no_outcome_in_the_store(tmp_path: Path) -> None:
    store, one = Store(tmp_path), job(tmp_path, "square", "one")
    store.put(Outcome(one, "stopped", None, "", 0.1))
    assert store.find(one) is None
