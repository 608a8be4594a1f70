"""``zoo predict``, ``zoo evaluate``: what a network says, and how often it is right."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.options import args_option, complete_name, device_option, json_option, read_args
from zoo.cli.output import do_each, echo, one_line, only_answers, print_facts, print_json, show_progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from zoo.evaluation import Report
    from zoo.evaluation.claims import Comparison
    from zoo.manifest import Score

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("name", shell_complete=complete_name)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=click.Path(exists=True, dir_okay=False))
@click.option("-k", "--top", default=5, show_default=True, type=click.IntRange(min=1), help="How many classes to show.")
@click.option("--weights", type=_FILE, help="A local safetensors file, in place of NAME's own weights.")
@args_option
@device_option
@json_option
@click.pass_context
def predict(
    context: click.Context,
    name: str,
    images: tuple[str, ...],
    top: int,
    weights: Path | None,
    args: dict[str, str],
    device: str | None,
    as_json: bool,
) -> None:
    """Classify images.

    Shows the likeliest classes of each and their probabilities. NAME without a tag stands for the
    model's default weights.
    """
    import msgspec

    from zoo.creation import create_trained, info_of, require_classes
    from zoo.evaluation.predict import class_names_of, rank

    with only_answers():
        model = create_trained(name, weights=weights, device=device, **read_args(args)).eval()
        require_classes(model)
        classes = class_names_of(model)

    def work(file: str) -> list[dict[str, Any]]:
        with only_answers():
            ranked = rank(model, file, classes, top)
        if not as_json:
            echo(file)
            for row in ranked:
                echo(f"  {row.probability:7.2%}  {one_line(row.class_name)}")
        return [msgspec.to_builtins(row) for row in ranked]

    done, failed, code = do_each(images, work)
    if as_json:
        rows = [{"image": file, "classes": ranked} for file, ranked in done.items()]
        rows += [{"image": file, "error": reason} for file, reason in failed.items()]
        info = info_of(model)
        print_json({"model": info.model.name, "weights": info.name, "predictions": rows})
    context.exit(code)


@click.command()
@click.argument("name", shell_complete=complete_name)
@click.option("--data", help="A data set's name or path.  [default: the one the weights were trained for]")
@click.option("--split", default="test", show_default=True)
@click.option("--weights", type=_FILE, help="Score this local safetensors file.")
@args_option
@click.option("--check", is_flag=True, help="Compare with the claimed score; exit 1 if it does not agree.")
@click.option("--allow-other-images", is_flag=True, help="With --check: other images than the claim's will do.")
@click.option("--batch-size", default=256, show_default=True, type=click.IntRange(min=1))
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@device_option
@json_option
@click.pass_context
def evaluate(
    context: click.Context,
    name: str,
    data: str | None,
    split: str,
    weights: Path | None,
    args: dict[str, str],
    check: bool,
    allow_other_images: bool,
    batch_size: int,
    dtype: str,
    device: str | None,
    as_json: bool,
) -> None:
    """Score weights on a data set.

    Top-1 with its 95% interval, top-5, loss, and the fingerprint of the images. NAME without a tag
    stands for the model's default weights.
    """
    if allow_other_images and not check:
        raise click.UsageError("--allow-other-images goes with --check.")
    if check and weights:
        raise click.UsageError("--check compares with what a manifest claims; a local file claims nothing.")
    from zoo.creation import create_trained
    from zoo.evaluation import by_name

    options: dict[str, Any] = {"batch_size": batch_size, "command": _command(context)}
    with only_answers(), show_progress(f"evaluating {name}") as progress:
        model = create_trained(name, weights=weights, **read_args(args))
        claims = _claims(model) if check else {}
        report = by_name.evaluate(
            model, data, split, device=device, dtype=None if dtype == "float32" else dtype, progress=progress, **options
        )
    comparison = _compare(report, claims, allow_other_images) if check else None
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(report) | ({"check": comparison} if comparison else {}))
    else:
        _print_report(report, comparison)
    context.exit(0 if comparison is None or comparison.agrees else 1)


def _claims(model: "nn.Module") -> "Mapping[str, Score]":
    from zoo.creation import info_of
    from zoo.errors import WeightsError

    info = info_of(model)
    if info.weights is None or not info.weights.scores:
        raise WeightsError(f"The manifest claims no score of {info.name}: there is nothing to compare with.")
    return info.weights.scores


def _compare(report: "Report", claims: "Mapping[str, Score]", allow_other_images: bool) -> "Comparison":
    from zoo.errors import WeightsError
    from zoo.evaluation import claims as claimed

    where = f"{report.dataset}/{report.split}"
    if where not in claims:
        raise WeightsError(
            f"The manifest claims no score of {report.weights} on {where}.",
            hint=f"It claims scores on {', '.join(claims)}.",
        )
    return claimed.check(report, claims[where], allow_other_images=allow_other_images)


def _command(context: click.Context) -> str:
    """The command line that gives these numbers again: for the claim in a manifest."""
    import shlex

    words = ["zoo", "evaluate", context.params["name"]]
    for option in ("data", "split", "weights", "dtype"):
        if context.get_parameter_source(option) is click.core.ParameterSource.COMMANDLINE:
            words += [f"--{option}", str(context.params[option])]
    for key, value in context.params["args"].items():
        words += ["--arg", f"{key}={value}"]
    return shlex.join(words)


def _print_report(report: "Report", comparison: "Comparison | None") -> None:
    low, high = report.interval
    echo(f"{report.weights or report.model} on {report.dataset}/{report.split}")
    facts = [
        ("top-1", f"{report.top1:.3f}%  ({report.correct:,} of {report.n:,}; 95% interval {low:.3f} to {high:.3f})"),
        ("mean class", f"{report.mean_class:.3f}%"),
        ("top-5", f"{report.top5:.3f}%" if report.top5 is not None else ""),
        ("loss", f"{report.loss:.4f}"),
        ("speed", f"{report.images_per_s:,.0f} images/s on {report.device}, {report.dtype}"),
        ("images", report.fingerprint),
        ("versions", ", ".join(f"{name} {version}" for name, version in report.versions.items())),
        ("check", comparison.message if comparison else ""),
    ]
    print_facts(facts)
