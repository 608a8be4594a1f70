"""A pattern in place of a name: each command takes it, or says that it takes none."""

from pathlib import Path

import pytest
from support.command import ask, told

TWO = ["resnet20.digits", "resnet20.digits_robust"]
"""The weights of resnet20 that are part of the package."""


def test_verify_checks_all_weights_that_match() -> None:
    assert [row["name"] for row in told("verify", "resnet20.dig*")] == TWO


def test_benchmark_times_all_models_that_match() -> None:
    rows = told("benchmark", "resnet[28]0", "resnet20", "--batch-size", 1, "--steps", 1, "--warmup", 1)
    assert [row["model"] for row in rows] == ["resnet20"]


def test_lock_writes_all_weights_that_match(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    locked = told("lock", "resnet20.dig*")
    assert (locked["changed"], [*locked["weights"]]) == (TWO, TWO)


def test_names_pinned_on_first_use_are_forgotten_by_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_USER_LOCK", str(tmp_path / "user.lock"))
    answer = ask("lock", "--user", "--forget", "resnet20.dig*")
    assert answer.exit_code == 2
    assert "You pinned no name that matches 'resnet20.dig*'." in answer.stderr


@pytest.mark.parametrize("command", ["fetch", "verify", "lock"])
def test_a_pattern_that_matches_no_weights_is_said(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = ask(command, "resnet20.digit")
    assert "Did you mean" in answer.stderr  # a name
    answer = ask(command, "resnet20.nope*")
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "No weights match 'resnet20.nope*'." in answer.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("info", "resnet20.dig*"),
        ("predict", "resnet20.dig*", __file__),
        ("evaluate", "resnet20.dig*"),
        ("calibrate", "resnet20.dig*"),
        ("reproduce", "resnet20.dig*"),
        ("recipes", "resnet2*"),
        ("train", "resnet2*", "--data", "digits", "-o", "run"),
        ("train", "resnet20", "--data", "digits", "-o", "run", "--init", "resnet20.dig*"),
        ("export", "resnet20.dig*"),
        ("features", "resnet20.dig*", "--data", "digits", "-o", "features.safetensors"),
        ("convert", __file__, "resnet20.dig*", "-o", "weights.safetensors"),
        ("audit", "resnet20.dig*", "--data", "digits"),
        ("look", "filters", "resnet20.dig*", "-o", "filters.png"),
        ("look", "representations", "resnet20.digits", "resnet20.dig*", "--data", "digits"),
    ],
)
def test_a_command_for_one_name_says_so_of_a_pattern(words: tuple[str, ...]) -> None:
    answer = ask(*words)
    [pattern] = [word for word in words if "*" in word]
    assert answer.exit_code == 2, answer.stderr
    assert f"'{pattern}' is a pattern; this command takes one name." in " ".join(answer.stderr.split())


def test_a_command_for_names_without_patterns_says_so() -> None:
    answer = ask("manifest", "pin", "resnet20.dig*")
    assert answer.exit_code == 2
    assert "'resnet20.dig*' is a pattern; this command takes names." in " ".join(answer.stderr.split())


def test_a_path_with_the_signs_of_a_pattern_is_a_path(tmp_path: Path) -> None:
    file = tmp_path / "outputs[1].safetensors"
    file.write_bytes(b"")
    answer = ask("calibrate", file)
    assert "--hold-out N is needed for a file of outputs." in answer.stderr
