"""Many weights with one command: the scores are those of one at a time, and what is done is not done again."""

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.children import wait_for
from support.command import ask_warm as ask

import zoo
from zoo import results
from zoo.data.image_set import thin
from zoo.errors import DataError, IntegrityError, PluginError, UnknownNameError
from zoo_bulk import jobs as engines
from zoo_bulk import plans, work
from zoo_bulk.jobs import Job, Outcome
from zoo_bulk.plans import Plan, plan

pytest.importorskip("sklearn", reason="needs zoo-vision[data]")

TWO = ("resnet20.digits", "resnet20.digits_robust")
EVALUATE = ("bulk", "evaluate", "resnet20.d*", "gcn4_3x3.mnist", "--data", "digits", "--limit", "60")


@pytest.fixture(autouse=True)
def _describe_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data sets are described by this process, which has torch already."""
    monkeypatch.setattr(plans, "describe", plans.describe_here)


def do_here(jobs: Sequence[Job], store: Any, *, ended: Any, **options: Any) -> None:
    """Stands for an engine that does the jobs in this process."""
    for job in jobs:
        try:
            result = getattr(work, job.function.partition(":")[2])(**job.arguments)
            outcome = Outcome(job, "done", result, "", 0.1)
        except zoo.ZooError as error:
            outcome = Outcome(job, "failed", None, error.message, 0.1)
        store.put(outcome)
        ended(outcome)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the jobs that were done, here."""
    done: list[str] = []

    def engine(jobs: Sequence[Job], store: Any, **options: Any) -> None:
        done.extend(job.name for job in jobs)
        do_here(jobs, store, **options)

    monkeypatch.setattr(engines, "run", engine)
    return done


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results, of two weights and one that is left out, by real processes."""
    folder = tmp_path_factory.mktemp("bulk") / "runs"
    done = ask(*EVALUATE, "-o", folder, "--at-once", 1, "--threads", 1)
    assert done.exit_code == 0, done.output
    assert "2 of 2 done, 1 left out" in done.stderr
    return folder


def test_the_scores_of_a_list_are_those_of_the_weights_alone(evaluated: Path) -> None:
    rows = {row.weights: row for row in results.read(evaluated / "results.csv")}
    images = thin(zoo.data.load("digits", "test"), 60)
    for name in TWO:
        report = zoo.evaluate(name, images)
        row = rows[name]
        assert (row.correct, row.n, row.fingerprint) == (report.correct, report.n, report.fingerprint)
        assert (row.low, row.high) == report.interval
        assert row.loss == pytest.approx(report.loss, abs=1e-5)
        assert row.sha256 == zoo.info(name)["weights"][0]["sha256"]
    assert rows["gcn4_3x3.mnist"].status == "skipped"
    assert "classes of mnist" in rows["gcn4_3x3.mnist"].reason


def test_what_is_done_is_not_done_again_and_the_tables_are_the_same_bytes(evaluated: Path, here: list[str]) -> None:
    before = (evaluated / "results.csv").read_bytes()
    words = ("bulk", "evaluate", "gcn4_3x3.mnist", *reversed(TWO), *EVALUATE[4:])
    assert ask(*words, "-o", evaluated).exit_code == 0
    assert here == []
    assert (evaluated / "results.csv").read_bytes() == before


def test_the_command_in_a_row_measures_it_again(evaluated: Path, tmp_path: Path, here: list[str]) -> None:
    [row, *_] = [row for row in results.read(evaluated / "results.csv") if row.status == "done"]
    words = row.command.split()
    assert words[:2] == ["zoo", "bulk"]
    assert ask(*words[1:-1], tmp_path).exit_code == 0
    assert results.read(tmp_path / "results.csv") == [row]
    assert here == ["resnet20.digits digits/test"]


def test_against_finds_a_regression_and_exits_with_1(evaluated: Path, tmp_path: Path) -> None:
    rows = results.read(evaluated / "results.csv")
    worse = [msgspec.structs.replace(row, correct=row.correct - 1) if row.correct else row for row in rows]
    results.write(tmp_path, worse, [])
    table = evaluated / "results.csv"
    assert ask("results", "show", table, "--against", table).exit_code == 0
    worse_table = ask("results", "show", tmp_path / "results.csv", "--against", table)
    assert worse_table.exit_code == 1
    assert worse_table.stdout.count("worse") == 2
    better = ask(*EVALUATE, "-o", evaluated, "--against", tmp_path / "results.csv", "--json")
    assert better.exit_code == 0
    verdicts = [change["verdict"] for change in json.loads(better.stdout)["changes"]]
    assert sorted(verdicts) == ["better", "better", "new"]
    assert ask(*EVALUATE, "-o", evaluated, "--against", table).exit_code == 0


def planned(command: str = "evaluate", *patterns: str, **options: Any) -> Plan:
    return plan(command, patterns or (TWO[0],), Path("runs"), **options)


def test_the_key_of_a_job_is_of_what_decides_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(**options: Any) -> str:
        [job] = planned(data=["digits"], **options).jobs
        return job.key

    first = key()
    others = [key(split="train"), key(options={"limit": 60}), key(options={"dtype": "bfloat16"})]
    assert key() == first
    assert len({first, *others}) == 4
    described = plans.describe_here([("digits", "test")], None)
    versions = {**described.versions, "torch": "0.1"}
    monkeypatch.setattr(plans, "describe", lambda *_: msgspec.structs.replace(described, versions=versions))
    assert key() != first


def test_without_data_weights_are_scored_where_their_manifest_has_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZOO_DATA", raising=False)
    monkeypatch.setattr("zoo.data.sources.download_set", no_network)
    made = planned("evaluate", *TWO, "resnet20.fmnist")
    assert [(row.weights, row.data) for row in made.rows] == [(name, "digits/test") for name in TWO]
    [missing] = made.left_out
    assert (missing.weights, missing.data, missing.status) == ("resnet20.fmnist", "fashion_mnist/test", "failed")
    assert "cannot be downloaded" in missing.reason


def no_network(name: str) -> Path:
    raise DataError("there is no network")


def test_data_that_was_asked_for_and_cannot_be_loaded_is_an_error() -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        planned(data=["./nowhere"])
    with pytest.raises(UnknownNameError, match=r"No weights match 'resnet20\.nothing'"):
        planned("evaluate", "resnet20.nothing")
    with pytest.raises(UnknownNameError, match="Unknown command 'evaluat'"):
        planned("evaluat")


def test_weights_that_the_projects_policy_refuses_are_a_failed_row(inside: Path) -> None:
    rule = f'names = ["{TWO[0]}"]\nhubs = ["plugin:zoo-vision"]\nunsigned = true\n'
    Path("zoo-policy.toml").write_text(f"version = 1\n\n[[rules]]\n{rule}")
    made = planned("evaluate", *TWO, data=["digits"])
    assert [row.weights for row in made.rows] == [TWO[0]]
    [refused] = made.left_out
    assert (refused.weights, refused.status) == (TWO[1], "failed")
    assert "zoo-policy.toml" in refused.reason


def test_a_job_names_the_files_of_its_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within ZOO_DATA, the whole of what lies directly in it: labels may be in another file than the images."""
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    for name in ("set/train/a", "set/b", "alone"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    whole = (str(tmp_path / "set" / "b"), str(tmp_path / "set" / "train" / "a"))
    assert plans._files(tmp_path / "set" / "b") == whole
    assert plans._files(tmp_path / "alone") == (str(tmp_path / "alone"),)
    assert plans._files(Path("scikit-learn")) == ()
    monkeypatch.setattr(plans, "_MOST_BYTES", 1)
    assert plans._files(tmp_path / "set") == ()


def test_a_node_with_other_bytes_images_or_versions_fails_and_says_so() -> None:
    [job] = planned(data=["digits"]).jobs
    arguments = dict(job.arguments)

    def with_other(**values: Any) -> dict[str, Any]:
        return {**arguments, "expected": {**arguments["expected"], **values}}

    with pytest.raises(IntegrityError, match=r"resnet20\.digits here has sha256 95592408"):
        work.evaluate(**with_other(sha256="0" * 64))
    with pytest.raises(DataError, match="digits/test here have the fingerprint sha256:"):
        work.evaluate(**with_other(fingerprint="sha256:0"))
    with pytest.raises(PluginError, match=r"This node has torch .*; the list of jobs needs .*torch 0\.1"):
        work.evaluate(**with_other(versions={**arguments["expected"]["versions"], "torch": "0.1"}))


def test_a_job_that_fails_is_a_row_with_its_reason_and_is_tried_again(
    tmp_path: Path, here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = work._network
    monkeypatch.setattr(
        work, "_network", lambda name, expected: whole(name, {"sha256": "0"} if "robust" in name else expected)
    )
    words = ("bulk", "evaluate", "resnet20.d*", "--data", "digits", "--limit", "20", "-o", tmp_path)
    failed = ask(*words)
    assert failed.exit_code == 1
    assert "1 of 2 done, 1 failed" in failed.stderr
    statuses = {row.weights: (row.status, row.reason) for row in results.read(tmp_path / "results.csv")}
    assert statuses[TWO[0]] == ("done", "")
    assert statuses[TWO[1]][0] == "failed"
    assert "here has sha256" in statuses[TWO[1]][1]
    monkeypatch.setattr(work, "_network", whole)
    assert ask(*words).exit_code == 0
    assert here == [f"{name} digits/test" for name in (*TWO, TWO[1])]


CASES = {
    "features": ("--data", "digits", "--limit", 9, "--batch-size", 4),
    "attack-curve": ("--data", "digits", "--limit", 9, "--epsilons", "0,0.1", "--attack", "fgsm", "--steps", 1),
    "verify": (),
    "export": ("--format", "torch-export"),
}


def done(command: str, folder: Path) -> list[dict[str, str]]:
    """Returns the rows of a command for one of the weights."""
    assert ask("bulk", command, TWO[0], *CASES[command], "-o", folder).exit_code == 0
    with (folder / "results.csv").open(newline="") as stream:
        return [*csv.DictReader(stream)]


def test_features_of_a_list_are_those_of_one_and_a_file_that_is_gone_is_written_again(
    tmp_path: Path, here: list[str]
) -> None:
    from zoo_transfer import extraction

    [row] = done("features", tmp_path)
    file = tmp_path / row["file"]
    alone = zoo.features(TWO[0], thin(zoo.data.load("digits", "train"), 9), batch_size=4)
    assert extraction.read(file).features.equal(alone.features)
    done("features", tmp_path)
    assert len(here) == 1
    file.unlink()
    done("features", tmp_path)
    assert len(here) == 2
    assert file.exists()


def test_an_attack_has_a_row_for_each_epsilon(tmp_path: Path, here: list[str]) -> None:
    rows = done("attack-curve", tmp_path)
    assert [(row["attack"], row["epsilon"], row["n"]) for row in rows] == [("fgsm", "0.0", "9"), ("fgsm", "0.1", "9")]
    assert int(rows[0]["correct"]) >= int(rows[1]["correct"])


def test_weights_of_a_list_are_verified_as_one_is(tmp_path: Path, here: list[str]) -> None:
    [row] = done("verify", tmp_path)
    assert 0 <= float(row["difference"]) < 1e-2
    assert row["status"] == "done"


@pytest.mark.slow
def test_a_list_is_exported_to_files_of_the_format(tmp_path: Path, here: list[str]) -> None:
    [row] = done("export", tmp_path)
    assert row["file"] == "exported/resnet20.digits.pt2"
    assert zoo.evaluate(str(tmp_path / row["file"]), "digits").correct == 360


def test_a_benchmark_of_a_list_has_speeds_and_no_scores(tmp_path: Path, here: list[str]) -> None:
    words = ("bulk", "benchmark", "resnet8", "--batch-size", "1,2", "--warmup", 1, "--steps", 1, "-o", tmp_path)
    answer = ask(*words)
    assert answer.exit_code == 0, answer.output
    [row] = results.read(tmp_path / "results.csv")
    assert (row.weights, row.top1) == ("resnet8", None)
    assert [speed.batch_size for speed in results.read_speed(tmp_path / "speed.csv")] == [1, 2]


@pytest.mark.slow
def test_ctrl_c_writes_the_tables_of_what_is_done_and_the_same_command_continues(tmp_path: Path) -> None:
    words = ["bulk", "evaluate", "resnet20.d*", "resnet20.fmnist", "--data", "digits", "--data", "fashion_mnist"]
    command = [sys.executable, "-m", "zoo", *words, "-o", str(tmp_path / "runs"), "--at-once", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: [*tmp_path.glob("runs/jobs/*.json")])
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Interrupted. The same command continues." in errors
    first = [row for row in results.read(tmp_path / "runs" / "results.csv") if row.status == "done"]
    assert 1 <= len(first) < 3
    assert subprocess.run(command, capture_output=True).returncode == 0
    rows = [row for row in results.read(tmp_path / "runs" / "results.csv") if row.status == "done"]
    assert len(rows) == 3
    assert all(row in rows for row in first)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("evaluate", "resnet20.d*"),
            "'resnet20.d*' is a pattern; this command takes one name. zoo bulk evaluate takes patterns",
        ),
        (("evaluate", TWO[0], "--data", "digits", "--data", "mnist"), "got 2 of them, expected one"),
        (("evaluate", TWO[0], "--all"), "--all is now a command: zoo bulk evaluate PATTERN... -o DIR"),
        (("verify", "--all"), "--all is now a command: zoo verify --embedded or zoo bulk verify PATTERN... -o DIR"),
        (("bulk", "evaluate", TWO[0]), "Missing option '-o'"),
        (("bulk", "export", TWO[0], "-o", "runs"), "Missing option '--format'"),
        (("bulk", "features", TWO[0], "-o", "runs"), "Missing option '--data'"),
        (("verify", TWO[0], "--embedded"), "Give names or --embedded, not both"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words: tuple[str, ...], said: str, inside: Path) -> None:
    found = ask(*words)
    assert found.exit_code == 2
    assert said in " ".join(found.stderr.split())


def test_a_plan_says_what_is_left(tmp_path: Path) -> None:
    made, store = planned(data=["digits"]), plans.store_in(tmp_path)
    [job] = made.jobs
    assert plans.left(made, store) == [job]
    store.put(Outcome(job, "failed", None, "a reason", 1.0))
    assert plans.left(made, store) == [job]
    store.put(Outcome(job, "done", {"rows": [{}], "speeds": [{}]}, "", 1.0, 5_000_000))
    assert plans.left(made, store) == []
    rows, speeds = plans.tables(made, store)
    assert [row.status for row in rows] == ["done"]
    assert [(speed.seconds, speed.memory_mb) for speed in speeds] == [(1.0, 5.0)]
