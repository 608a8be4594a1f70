"""``zoo data check``: what is wrong with a folder of images, and what to do."""

from pathlib import Path
from typing import Any

import click

from zoo.cli import options
from zoo.cli.group import Commands
from zoo.cli.output import echo, note, one_line, print_json, show_progress, stdout_to_stderr

_SHOWN = 10


@click.group(
    cls=Commands,
    sections={"Before training:": {"check": "zoo_datacheck.cli:check"}},
    epilog="Example: zoo data check photos -o page.html",
)
def data() -> None:
    """Look at your own images before training."""


@click.command(epilog="Example: zoo data check photos -o page.html")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@options.output("Write a page with thumbnails to FILE.html.", required=False, suffix=".html")
@click.option(
    "--network", default="resnet20.c10", show_default=True, metavar="NAME", callback=options.refuse_pattern,
    help="Weights whose features show doubtful labels; those of ImageNet see more in photographs.",
)  # fmt: skip
@click.option("--no-labels", is_flag=True, help="Do not look for doubtful labels, which takes most of the time.")
@click.option("--top", default=50, show_default=True, type=options.POSITIVE, help="Doubtful labels to report.")
@click.option(
    "--doubt", default=0.1, show_default=True, type=click.FloatRange(0, 1),
    help="A label is doubtful if it is less probable than this.",
)  # fmt: skip
@click.option(
    "--distance", default=4, show_default=True, type=click.IntRange(0, 32),
    help="Bits of 64 in which the perceptual hashes of near duplicates may differ.",
)  # fmt: skip
@options.several(options.device, options.json)
@click.pass_context
def check(
    context: click.Context,
    /,
    folder: Path,
    output: Path | None,
    network: str,
    no_labels: bool,
    as_json: bool,
    **keywords: Any,
) -> None:
    """Find what is wrong with a folder of images.

    FOLDER is what zoo train --data takes. Finds a level too high, one class, empty classes, images that cannot be read,
    orientation, sizes and modes, imbalance, duplicates within and across splits, and doubtful labels. Each finding says
    what to do; nothing is changed. The exit code is 1 if a finding is an error.
    """
    from zoo_datacheck import images, page

    with stdout_to_stderr(), show_progress(f"checking {folder}") as progress:
        report = images.check(folder, network=None if no_labels else network, progress=progress, **keywords)
        if output is not None:
            page.write(report, output)
    if as_json:
        print_json(report)
    else:
        _print_report(report)
        if output is not None:
            echo(output)
    if any(finding.level == "error" for finding in report.findings):
        context.exit(1)


def _print_report(report: Any) -> None:
    splits = ", ".join(f"{split} {sum(counts.values()):,}" for split, counts in report.splits.items())
    echo(f"{report.folder}: {report.images:,} images of {len(report.classes)} classes ({splits or 'none read'})")
    for finding in report.findings:
        echo(one_line(f"{finding.level}: {finding.message}"))
        echo(one_line(f"  {finding.advice}"))
    for doubt in report.doubtful[:_SHOWN]:
        likelier = f"rather {doubt.likelier} ({doubt.likelier_probability:.0%})"
        echo(one_line(f"  {doubt.file}: {doubt.label} {doubt.probability:.1%}, {likelier}"))
    if len(report.doubtful) > _SHOWN:
        echo(f"  and {len(report.doubtful) - _SHOWN} more: -o page.html shows them.")
    if not report.findings:
        note("Nothing was found.")
