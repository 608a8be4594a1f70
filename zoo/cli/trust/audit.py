"""``zoo audit``: does a claimed score hold, and what explains it if not?"""

from typing import TYPE_CHECKING, Any

import click

from zoo.cli import options
from zoo.cli.output import echo, note, print_facts, print_json, print_table, show_progress, stdout_to_stderr

if TYPE_CHECKING:
    from zoo.evaluation.auditing import Audit


@click.command(epilog="Example: zoo audit resnet20.digits --data digits")
@options.several(options.name, options.required_data, options.split)
@click.option(
    "--claim", type=click.FloatRange(0, 100), metavar="PERCENT", help="The claimed top-1.  [default: the manifest's]"
)
@click.option(
    "--limit", default=1000, show_default=True, type=options.POSITIVE, help="Images that variants are tried on."
)
@options.several(options.batch_size(256), options.device, options.json)
@click.pass_context
def audit(
    context: click.Context, /, name: str, data: str, split: str, limit: int, as_json: bool, **keywords: Any
) -> None:
    """Compare a claimed score with a measurement and explain a difference.

    NAME may be a repository (hf-hub:OWNER/NAME). If the claimed top-1 lies outside of the measured 95% interval, other
    crops, interpolations, means and deviations are tried. Exits with 1 unless the claim holds with the manifest's own
    preprocessing.
    """
    from zoo.evaluation import auditing

    with stdout_to_stderr(), show_progress(f"evaluating {name}") as progress:
        found = auditing.audit(
            name, data, split, limit=limit, progress=progress,
            on_variant=None if as_json else lambda changes: note(f"trying {changes}"), **keywords,
        )  # fmt: skip
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(found))
    else:
        _print(found)
    context.exit(0 if found.agrees else 1)


def _print(found: "Audit") -> None:
    report = found.measured
    low, high = report.interval
    echo(f"{found.weights} on {report.dataset}/{report.split}")
    print_facts(
        [
            ("claimed", f"{found.claimed:.3f}%  ({found.source})"),
            (
                "measured",
                f"{report.top1:.3f}%  ({report.correct:,} of {report.n:,}; 95% interval {low:.3f} to {high:.3f})",
            ),
            ("images", report.fingerprint),
            ("audit", "the claim holds" if found.agrees else "the claim does not hold"),
        ]
    )
    if found.agrees:
        return
    titles = ("preprocessing", "images", "top-1", "on all, estimated")
    rows = [(one.changes, f"{one.n:,}", f"{one.top1:.2f}%", f"{one.estimate:.2f}%") for one in found.variants]
    echo()
    print_table(titles, rows, right=titles[1:])
    if (best := found.explanation) is None:
        echo("\nNone of these explains the claim on all images.")
        return
    echo(
        f"\n{best.changes} explains the claim: {best.top1:.3f}% on all {best.n:,} images, 95% interval "
        f"{best.interval[0]:.3f} to {best.interval[1]:.3f}"
    )
    preprocess = best.preprocess
    print_facts(
        [
            ("crop", f"{preprocess.crop_pct:g}"),
            ("interpolation", preprocess.interpolation),
            ("mean", ", ".join(f"{value:g}" for value in preprocess.mean)),
            ("std", ", ".join(f"{value:g}" for value in preprocess.std)),
        ]
    )
