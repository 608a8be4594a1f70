"""``zoo predict``, ``zoo evaluate``, ``zoo calibrate``: predictions, how many are right, and how certain they are."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli import options
from zoo.cli.output import (
    do_each,
    echo,
    mean_class,
    one_line,
    print_facts,
    print_json,
    print_table,
    show_progress,
    stdout_to_stderr,
)

if TYPE_CHECKING:
    from zoo.evaluation import Report
    from zoo.evaluation.calibration import Calibration
    from zoo.evaluation.claims import Comparison


@click.command(epilog="Example: zoo predict resnet20.digits digit.png")
@options.name
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=click.Path())
@click.option("-k", "--top", default=5, show_default=True, type=options.POSITIVE, help="Number of classes to show.")
@options.several(options.weights, options.args, options.device, options.json)
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

    IMAGE is a file, a folder of images or an address. Prints the most probable classes of each. NAME may be the folder
    of a run; without a tag, it means the model's default weights.
    """
    import msgspec

    from zoo.data import image_source
    from zoo.evaluation.prediction import Prepared, class_names_of
    from zoo.loading.create import create_trained, info_of, require_classes

    with stdout_to_stderr():
        model = create_trained(name, weights=weights, device=device, **options.read_args(args)).eval()
        require_classes(model)
        classes = class_names_of(model)

    def work(file: str) -> list[dict[str, Any]]:
        with stdout_to_stderr():
            ranked = prepared.rank(file, classes, top)
        if not as_json:
            echo(file)
            for row in ranked:
                echo(f"  {row.probability:7.2%}  {one_line(row.class_name)}")
        return [msgspec.to_builtins(row) for row in ranked]

    files = [str(image) for image in image_source.expand(dict.fromkeys(images))]
    with Prepared(model, files) as prepared:
        done, failed, code = do_each(files, work)
    if as_json:
        rows = [{"image": file, "classes": ranked} for file, ranked in done.items()]
        rows += [{"image": file, "error": reason} for file, reason in failed.items()]
        info = info_of(model)
        print_json({"model": info.model.name, "weights": info.name, "predictions": rows})
    context.exit(code)


@click.command(epilog="Example: zoo evaluate resnet20.digits --check")
@options.several(options.one_name(bulk="evaluate"), options.data, options.split, options.weights, options.args)
@click.option(
    "--outputs",
    type=options.NEW_FILE,
    metavar="FILE",
    callback=options.keep_network,
    help="Store logits and images' identities as safetensors.",
)
@click.option(
    "--mistakes",
    type=options.NEW_FOLDER,
    metavar="DIR",
    help="Write confusion.csv and mistakes.csv to DIR, and print them.",
)
@click.option("--check", is_flag=True, help="Compare with the claimed score; exit 1 if they disagree.")
@click.option("--allow-other-images", is_flag=True, help="With --check: accept other images than the claim's.")
@options.batch_size(256)
@options.choice("--precision", "--dtype", "dtype", values=["float32", "bfloat16"], help="Arithmetic of the network.")
@click.option("--compile", is_flag=True, help="Compile with torch.compile.")
@options.several(options.device, options.moved("zoo bulk evaluate PATTERN... -o DIR"), options.json)
@click.pass_context
def evaluate(
    context: click.Context,
    /,
    name: str,
    data: str | None,
    split: str,
    weights: Path | None,
    args: dict[str, str],
    mistakes: Path | None,
    check: bool,
    allow_other_images: bool,
    dtype: str,
    as_json: bool,
    **keywords: Any,
) -> None:
    """Score weights on a data set.

    Prints top-1 with its 95% interval, top-5, loss, and the fingerprint of the images. NAME without a tag means the
    model's default weights.
    """
    if allow_other_images and not check:
        raise click.UsageError("--allow-other-images needs --check.")
    if check and mistakes:
        raise click.UsageError("--check and --mistakes exclude each other: --check names the images that differ.")
    if check and weights:
        raise click.UsageError("--check compares with a manifest's score; a local file has none. Leave out --weights.")
    from zoo.evaluation import by_name
    from zoo.loading.create import create_trained

    keywords |= {"dtype": None if dtype == "float32" else dtype, "command": _command(context, name)}
    with stdout_to_stderr(), show_progress(f"evaluating {name}") as progress:
        model = create_trained(name, weights=weights, **options.read_args(args))
        comparison: Comparison | None = None
        if check:
            keywords["allow_other_images"] = allow_other_images
            report, comparison = by_name.check(model, data, split, progress=progress, **keywords)
        else:
            report = by_name.evaluate(model, data, split, mistakes=mistakes, progress=progress, **keywords)
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(report) | ({"check": comparison} if comparison else {}))
    else:
        _print_report(report, comparison)
        if mistakes is not None:
            from zoo.cli.train import print_mistakes

            print_mistakes(mistakes, report.split)
    context.exit(0 if comparison is None or comparison.agrees else 1)


def _command(context: click.Context, name: str) -> str:
    """Returns the command line that repeats this evaluation: for the claim in a manifest."""
    import shlex

    words = ["zoo", "evaluate", name]
    for option in ("data", "split", "weights", "dtype"):
        if context.get_parameter_source(option) is click.core.ParameterSource.COMMANDLINE:
            value = context.params[option]
            words += [f"--{'precision' if option == 'dtype' else option}", str(value)]
    for key, value in context.params["args"].items():
        words += ["--arg", f"{key}={value}"]
    return shlex.join(words)


def _print_report(report: "Report", comparison: "Comparison | None") -> None:
    low, high = report.interval
    of = f"{report.correct:,} of {report.n:,}; 95% interval {low:.3f} to {high:.3f}, Wilson"
    echo(f"{report.weights or report.model} on {report.dataset}/{report.split}")
    facts = [
        ("top-1", f"{report.top1:.3f}%  ({of})"),
        ("mean class", mean_class(report.mean_class, report.mean_class_interval)),
        ("top-5", f"{report.top5:.3f}%" if report.top5 is not None else ""),
        ("loss", f"{report.loss:.4f}" if report.loss is not None else ""),
        ("speed", f"{report.images_per_s:,.0f} images/s on {report.device}, {report.dtype}"),
        ("stated by", f"{report.stated_by}, which saw the labels" if report.stated_by else ""),
        ("images", report.fingerprint),
        ("versions", ", ".join(f"{name} {version}" for name, version in report.versions.items())),
        ("check", comparison.message if comparison else ""),
    ]
    print_facts(facts)


@click.command(epilog="Example: zoo calibrate resnet20.digits --hold-out 180")
@click.argument("source", metavar="NAME|FILE", shell_complete=options.complete_name, callback=options.refuse_pattern)
@options.several(options.data, options.split)
@click.option(
    "--hold-out", "count", type=options.POSITIVE, metavar="N",
    help="Fit on N images of the split, and report on the others.  [default: those held out by the training]",
)  # fmt: skip
@options.several(options.weights, options.batch_size(256), options.device, options.json)
def calibrate(source: str, data: str | None, split: str, count: int | None, as_json: bool, **keywords: Any) -> None:
    """Fit a temperature on held-out images.

    Prints cross-entropy (nll), expected calibration error (ece) and Brier score before and after, with 95% bootstrap
    intervals, on images that were not used to fit. FILE has outputs that zoo evaluate --outputs wrote.
    """
    from zoo.evaluation import calibration

    file = Path(source)
    if file.suffix == ".safetensors":
        if count is None:
            raise click.UsageError("--hold-out N is needed for a file of outputs.")
        calibrated, fitted = calibration.calibrate_file(file, count)
    else:
        with stdout_to_stderr(), show_progress(f"evaluating {source}") as progress:
            calibrated, fitted = calibration.calibrate_network(
                source, data, split, count, progress=progress, **keywords
            )
    if as_json:
        import msgspec

        return print_json(msgspec.to_builtins(calibrated) | {"fitted": fitted})
    return _print_calibration(source, calibrated, fitted)


def _print_calibration(name: str, calibrated: "Calibration", fitted: str) -> None:
    echo(name)
    print_facts([("temperature", f"{calibrated.temperature:.4f}"), ("fitted on", fitted)])
    echo(f"\non {calibrated.n:,} images, {calibrated.correct:,} correct with any temperature")
    rows = [
        (
            measure.name,
            _with_interval(measure.before, measure.before_interval),
            _with_interval(measure.after, measure.after_interval),
            _with_interval(measure.change, measure.change_interval),
        )
        for measure in calibrated.measures
    ]
    print_table(("measure", "before", "after", "change"), rows)


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.4f} ({interval[0]:.4f} to {interval[1]:.4f})"
