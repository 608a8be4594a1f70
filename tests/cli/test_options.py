"""Options of the command line: each has the effect that its help states, and each is in some test."""

import hashlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from support import samples
from support.command import told as ask

import zoo
from zoo.cli import cli
from zoo.loading import safetensors_file

TESTS = Path(__file__).parents[1]
DIGIT = str(TESTS.parent / "examples" / "digit.png")
NETWORK = "resnet20.digits"
MAXIMIZE = ("look", "maximize", NETWORK, "--channel", "3", "--steps", "4")
CURVE = ("attack", "curve", NETWORK, "--data", "digits", "--attack", "pgd", "--limit", "40", "--epsilons", "0.1")


def result_of(folder: Path, *words: object) -> dict[str, Any]:
    """Returns the tensors that a command keeps in a safetensors file."""
    file = folder / "result.safetensors"
    ask(*words, "-o", file)
    return load_file(file)


def commands(command: click.Command, context: click.Context) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            part = command.get_command(context, name)
            assert part is not None
            yield from commands(part, click.Context(part, info_name=name, parent=context))


def test_every_long_option_is_passed_in_some_test() -> None:
    found = {
        option
        for command in commands(cli, click.Context(cli, info_name="zoo", **cli.context_settings))
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("--")
    }
    assert {"--data", "--no-clip", "--help-me"} - found == {"--help-me"}
    text = "\n".join(file.read_text(encoding="utf-8") for file in TESTS.rglob("*.py"))
    passed = set(re.findall(r"""["' `](--[a-z0-9-]+)["' =`]""", text))
    assert sorted(found - passed) == []


def pages() -> Iterator[tuple[click.Context, click.Command, str]]:
    """Yields every command with its context and what ``zoo ... -h`` prints, at 80 columns."""

    def walk(command: click.Command, words: list[str], parent: click.Context | None) -> Iterator[Any]:
        context = click.Context(command, info_name=words[-1] if words else "zoo", parent=parent)
        done = CliRunner().invoke(cli, [*words, "-h"], prog_name="zoo", terminal_width=80)
        assert done.exit_code == 0, done.output
        yield context, command, done.stdout
        for name in command.list_commands(context) if isinstance(command, click.Group) else ():
            part = command.get_command(context, name)
            assert part is not None
            yield from walk(part, [*words, name], context)

    yield from walk(cli, [], None)


def test_help_fits_the_screen_and_nothing_in_it_is_cut() -> None:
    for context, command, text in pages():
        usage, _, rest = text.partition("\n\n")
        assert usage.startswith(f"Usage: {context.command_path} ")
        assert "..." not in rest, context.command_path
        assert max(map(len, text.splitlines())) <= 80, context.command_path
        if isinstance(command, click.Group):
            assert len(text.splitlines()) <= (40 if context.parent else 48), context.command_path


def test_every_option_has_a_sentence_of_help() -> None:
    for context, command, _ in pages():
        for option in command.params:
            if isinstance(option, click.Option):
                sentence = re.sub(r"  \[.*\]$", "", option.help or "")
                assert re.fullmatch(r"[A-Z].*\.", sentence), f"{context.command_path} {option.opts}: {sentence!r}"


def test_every_command_shows_an_example_that_it_accepts() -> None:
    for context, _, text in pages():
        examples = re.findall(r"^(?:  Example: |[A-Z]\w+:  +)(zoo .*)$", text, re.MULTILINE)
        assert examples, context.command_path
        for example in examples:
            assert example.startswith(context.command_path), example
            found, words = cli, shlex.split(example)[1:]
            inner: click.Context = click.Context(cli, info_name="zoo", **cli.context_settings)
            while isinstance(found, click.Group):
                part = found.get_command(inner, words.pop(0))
                assert part is not None, example
                found, inner = part, click.Context(part, parent=inner)
            given, left, _ = found.make_parser(inner).parse_args(words)
            assert not left, example
            for parameter in found.params:
                missing = parameter.required and given.get(parameter.name or "") in (None, ())
                assert not missing, f"{example}: {parameter.name}"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        *((name, f"zoo manifest {name}") for name in ("pin", "probe", "sign", "verify-signature")),
        ("sing", "zoo manifest sign"),
        ("deconv", "zoo look deconv"),
        ("apply", "zoo attack patch apply"),
        ("verfy", "zoo verify"),
    ],
)
def test_an_unknown_command_is_answered_with_the_one_that_was_meant(typed: str, meant: str) -> None:
    done = CliRunner().invoke(cli, [typed], prog_name="zoo")
    assert done.exit_code == 2
    assert f"No such command '{typed}'. Did you mean '{meant}'?" in done.stderr


def test_version_is_that_of_the_distribution() -> None:
    done = CliRunner().invoke(cli, ["--version"], prog_name="zoo")
    assert done.exit_code == 0
    assert zoo.__version__ in done.stdout


def test_convert_refuses_a_checkpoint_of_another_sha256(tmp_path: Path) -> None:
    file, out = tmp_path / "raw.safetensors", tmp_path / "out.safetensors"
    about = {"model": "resnet20", "num_classes": 10}
    safetensors_file.write(zoo.create("resnet20", num_classes=10).state_dict(), file, about)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    other = f"{int(digest[0], 16) ^ 1:x}{digest[1:]}"
    done = CliRunner().invoke(cli, ["convert", str(file), "resnet20", "-o", str(out), "--sha256", other])
    assert done.exit_code == 1
    assert digest in done.output
    assert not out.exists()
    ask("convert", file, "resnet20", "-o", out, "--sha256", digest[:8])
    assert out.exists()


def test_state_says_which_of_a_checkpoints_states_is_converted(tmp_path: Path) -> None:
    raw, averaged = (zoo.create("resnet20").state_dict() for _ in range(2))
    torch.save({"state_dict": raw, "state_dict_ema": averaged}, tmp_path / "in.pth")

    def converted(name: str, *words: object) -> Any:
        file = tmp_path / f"{name}.safetensors"
        ask("convert", tmp_path / "in.pth", f"resnet20.{name}", "-o", file, "--from", "as-is", *words)
        return load_file(file)["conv1.weight"]

    assert converted("default").equal(averaged["conv1.weight"])
    assert converted("raw", "--state", "state_dict").equal(raw["conv1.weight"])


def test_other_images_confirm_a_claim_only_if_they_are_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_DATA", str(samples.write(tmp_path / "sample")))
    words = ["evaluate", "resnet20.c10", "--data", "cifar10", "--check"]
    assert CliRunner().invoke(cli, words).exit_code == 1
    assert CliRunner().invoke(cli, [*words, "--allow-other-images"]).exit_code == 0


@pytest.mark.parametrize("size", [7, 360])
def test_the_batch_size_of_an_evaluation_changes_no_score(size: int) -> None:
    assert ask("evaluate", NETWORK, "--data", "digits", "--batch-size", size)["correct"] == 360


def test_the_batch_size_of_features_changes_no_feature(tmp_path: Path) -> None:
    found = []
    for size in (50, 400):
        file = tmp_path / f"{size}.safetensors"
        ask("features", NETWORK, "--data", "digits", "--batch-size", size, "-o", file)
        found.append(load_file(file)["features"])
    assert len(found[0]) == 1437
    assert (found[0] - found[1]).abs().max() < 1e-4


def test_maximize_makes_images_of_the_size_asked_for(tmp_path: Path) -> None:
    assert result_of(tmp_path, *MAXIMIZE, "--size", 11, 9)["images"].shape[-2:] == (11, 9)


def test_maximize_keeps_pixels_between_black_and_white_unless_told_not_to(tmp_path: Path) -> None:
    preprocess = zoo.info(NETWORK)["weights"][0]["preprocess"]
    words = (*MAXIMIZE, "--parametrisation", "pixels", "--rate", 2)

    def pixels(option: str) -> Any:
        return result_of(tmp_path, *words, option)["inputs"] * preprocess["std"][0] + preprocess["mean"][0]

    clipped, free = pixels("--clip"), pixels("--no-clip")
    assert -1e-5 < clipped.min() < clipped.max() < 1 + 1e-5
    assert free.min() < -0.5
    assert free.max() > 1.5


def test_a_heavy_penalty_shrinks_what_maximize_penalises(tmp_path: Path) -> None:
    words = (*MAXIMIZE, "--no-clip", "--parametrisation", "pixels", "--steps", 16, "--jitter", 0)

    def variation(inputs: Any) -> float:
        return float(inputs.diff(dim=-1).square().sum() + inputs.diff(dim=-2).square().sum())

    plain = result_of(tmp_path, *words)["inputs"]
    assert variation(result_of(tmp_path, *words, "--tv", 1000)["inputs"]) < variation(plain)
    assert result_of(tmp_path, *words, "--l2", 1000)["inputs"].norm() < plain.norm()


def test_maximize_keeps_the_best_of_its_restarts_from_a_seed() -> None:
    def channel(*words: object) -> Any:
        (row,) = ask(*MAXIMIZE, *words)["channels"]
        return row

    found = channel("--restarts", 4)
    assert len(set(found["restarts"])) == 4
    assert found["value"] == max(found["restarts"])
    assert channel("--seed", 5) == channel("--seed", 5) != channel("--seed", 6)


def test_a_wider_jitter_gives_another_image(tmp_path: Path) -> None:
    still = result_of(tmp_path, *MAXIMIZE, "--jitter", 0)["images"]
    assert not still.equal(result_of(tmp_path, *MAXIMIZE, "--jitter", 3)["images"])


def test_occlusion_moves_a_window_by_its_stride(tmp_path: Path) -> None:
    """Where windows do not overlap, every pixel of a window has one score."""
    words = ("look", "attribute", NETWORK, "--image", DIGIT, "--method", "occlusion")
    scores = result_of(tmp_path, *words, "--window", 4, "--stride", 4)["scores"].squeeze()
    blocks = scores.unfold(0, 4, 4).unfold(1, 4, 4).reshape(4, 16)
    assert (blocks == blocks[:, :1]).all()
    assert len(blocks[:, 0].unique()) > 1


def test_more_samples_change_smoothgrad_and_its_seed_fixes_it(tmp_path: Path) -> None:
    words = ("look", "attribute", NETWORK, "--image", DIGIT, "--method", "smooth_grad")
    few, same = (result_of(tmp_path, *words, "--samples", 2, "--seed", 1)["scores"] for _ in range(2))
    assert few.equal(same)
    assert not few.equal(result_of(tmp_path, *words, "--samples", 5, "--seed", 1)["scores"])
    assert not few.equal(result_of(tmp_path, *words, "--samples", 2, "--seed", 2)["scores"])


def test_the_edges_of_transformed_images_are_filled_as_asked() -> None:
    words = ("look", "invariance", NETWORK, "--data", "digits", "--transform", "translation", "--limit", 40)
    assert ask(*words, "--edges", "circular") != ask(*words, "--edges", "zeros")


def test_a_larger_eps_whitens_less() -> None:
    """Variances well above eps are brought to 1, those below it to less: the sum of variances falls as eps rises."""
    small, large = (ask("look", "whitening", "--data", "digits", "--limit", 200, "--eps", eps) for eps in (1e-4, 10))
    assert large["whitened"]["std"] < small["whitened"]["std"] < 1.01


def right(*words: object) -> int:
    (found,) = ask(*CURVE, *words)
    return int(found["points"][-1]["correct"])


def test_pgd_without_steps_enough_to_reach_the_edge_fools_less() -> None:
    assert right("--steps", 5, "--step-size", 0.002) > right("--steps", 5, "--step-size", 0.05)


def test_pgd_without_a_random_start_does_not_depend_on_the_seed() -> None:
    def point(*words: object) -> Any:
        return ask(*CURVE, "--steps", 2, *words)[0]["points"]

    assert point("--no-random-start", "--seed", 1) == point("--no-random-start", "--seed", 2)


@pytest.mark.slow
def test_the_batch_size_of_a_curve_changes_no_score() -> None:
    assert right("--batch-size", 3) == right("--batch-size", 40)


def test_a_patch_has_the_shape_place_and_rate_asked_for(tmp_path: Path) -> None:
    def made(name: str, *words: object) -> tuple[Any, dict[str, Any]]:
        file = tmp_path / name
        words = ("attack", "patch", "train", NETWORK, "--data", "digits", "--target", 3, "--steps", 2, *words)
        return ask(*words, "--batch-size", 16, "-o", file), load_file(file)

    placed = ("--rotation", 10, "--location", "0.5,0.5", "--scale", "0.9")
    about, square = made("square.safetensors", "--shape", "square", *placed)
    assert about["ranges"] == {"scale": [0.9, 0.9], "rotation": 10.0, "location": [0.5, 0.5]}
    assert square["mask"].all(), "a square patch covers its whole square"
    _, circle = made("circle.safetensors", "--shape", "circle", *placed)
    assert 0 < circle["mask"].float().mean() < 1
    _, slow = made("slow.safetensors", "--shape", "square", "--lr", 1e-6, *placed)
    assert not slow["pixels"].equal(square["pixels"])

    file, out = tmp_path / "square.safetensors", tmp_path / "out"
    ask("attack", "patch", "apply", file, DIGIT, "-o", out, "--location", "0.3,0.3", "--rotation", 0, "--seed", 1)
    assert (out / "digit.png").exists()
    left, right_ = (
        ask("attack", "patch", "score", file, NETWORK, "--data", "digits", "--limit", 40, "--location", place, *more)
        for place, more in (("0.3,0.3", ("--rotation", 0)), ("0.7,0.7", ("--rotation", 0)))
    )
    assert left["n"] == right_["n"]
    assert left["ranges"]["location"] != right_["ranges"]["location"]
