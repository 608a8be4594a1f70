"""Writes the tables of README.md and docs/lineage.md that follow from the registry: ``python docs/tables.py``.

A test holds the pages against them.
"""

import re
from pathlib import Path

from zoo import registry
from zoo.evaluation.interval import wilson
from zoo.manifest import Score
from zoo.registry import Listed
from zoo.registry.listing import params_of
from zoo.spec import Paper

ROOT = Path(__file__).parents[1]

STORY = (
    ("Gabor filters, maxima, pieces of images", "hmax.caltech101"),
    ("histograms of gradients, a linear SVM", "hog_svm.c10"),
    ("SIFT, visual words, nearest neighbours", "sift_bovw_knn.caltech101"),
    ("SIFT, visual words, a decision tree", "sift_bovw_tree.caltech101"),
    ("SIFT, Fisher vectors, a linear SVM", "sift_fisher_svm.caltech101"),
    ("one layer of filters learned without labels", "kmeans_svm.c10"),
    ("scattering, a linear layer", "scatter_linear.c10"),
    ("scattering, a small network on top", "scatter_cnn_small.c10"),
    ("five learned layers and dropout", "alexnet_small.c10"),
    ("all sizes at once, reduced by 1x1", "googlenet_small.c10"),
    ("56 layers without shortcuts", "plain56.c10"),
    ("56 layers with shortcuts", "resnet56.c10"),
    ("every earlier map is kept", "densenet_bc_40_12.c10"),
    ("many paths in place of shortcuts", "fractalnet20_narrow.c10_local"),
    ("shortcuts over shortcuts", "ror3_56.c10"),
    ("20 layers, trained for 60 epochs", "resnet20.c10"),
    ("a record's recipe, ten epochs", "airbench94.c10"),
    ("Gabor filters times learned ones", "gcn4_3x3.mnist"),
    ("the same, on turned digits", "gcn4_3x3.mnist_rot"),
    ("filters that turn, answers aligned, on turned digits", "orn8_align.mnist_rot"),
    ("images turned back, on moved digits", "stn_cnn_mnist.mnist_rts"),
    ("targets in place of errors sent back", "dtp_mlp.mnist"),
)
"""What an idea is, and the weights that show it, in the order of the story."""


def embedded_weights(models: list[Listed]) -> str:
    """What ships with the distribution, and how often it is right."""
    lines = [
        "| weights | epochs | scored on | right | score | 95% interval |",
        "|---|---:|---|---:|---:|---|",
    ]
    for entry in models:
        for weights in entry.weights:
            if not weights.hub.startswith("embedded:"):
                continue
            for where, score in weights.scores.items():
                value, how, interval = measured(where, score)
                lines.append(
                    f"| `{weights.name}` | {weights.epochs or ''} | {where} | {score.correct:,} of {score.n:,} "
                    f"| {value:.2f}%{how} | {interval} |"
                )
    return "\n".join(lines)


def measured(where: str, score: Score) -> tuple[float, str, str]:
    """The measure of the literature, how it differs from top-1, and top-1's 95% interval.

    Of Caltech-101, whose classes differ in size, papers give the mean over classes.
    """
    if where.startswith("caltech101") and score.mean_class is not None:
        return score.mean_class, " (mean of classes)", ""
    low, high = (100 * share for share in wilson(score.correct or 0, score.n))
    return score.top1 or 0.0, "", f"{low:.2f} to {high:.2f}" if score.correct is not None else ""


def families(models: list[Listed]) -> str:
    """Every built-in architecture, folded by family; the families as they came."""
    groups: dict[str, list[Listed]] = {}
    for entry in models:
        if entry.row.is_builtin:
            groups.setdefault(entry.row.name, []).append(entry)
    return "\n".join(family(name, entries) for name, entries in sorted(groups.items(), key=lambda it: years(it[1])))


def years(entries: list[Listed]) -> list[int]:
    return sorted({entry.model.paper.year for entry in entries if entry.model.paper})


def family(name: str, entries: list[Listed]) -> str:
    """A line to unfold, and under it a table with a line a model."""
    when = ", ".join(map(str, years(entries)))
    files = sum(len(entry.weights) for entry in entries)
    lines = [
        f"<details><summary><b>{name}</b> ({when}), models: {len(entries)}, weights: {files}</summary>",
        "",
        "| model | paper | parameters | multiply-adds | weights | best score |",
        "|---|---|---:|---:|---:|---|",
        *(model(entry) for entry in entries),
        "",
        "</details>",
        "",
    ]
    return "\n".join(lines)


def model(entry: Listed) -> str:
    about = entry.model
    url = about.paper.url.replace("(", "%28").replace(")", "%29") if about.paper else ""
    paper = f"[{cited(about.paper)}]({url})" if about.paper else ""
    macs = "" if not about.macs else f"{about.macs / 1e9:.3g} G" if about.macs >= 1e9 else f"{about.macs / 1e6:.3g} M"
    return f"| `{entry.name}` | {paper} | {about.params:,} | {macs} | {len(entry.weights) or ''} | {best(entry)} |"


def cited(paper: Paper) -> str:
    """As a text cites it: He et al. 2015."""
    first, *others = paper.authors.split(", ")
    more = {0: "", 1: f" and {others[0].split()[-1]}" if others else ""}.get(len(others), " et al.")
    return f"{first.split()[-1]}{more} {paper.year}"


def best(entry: Listed) -> str:
    """For each data set, the highest score that any of its weights claims, and which; of weights, their first score.

    A score says little of an architecture without the epochs behind it, so these are given if known.
    """
    claims: dict[str, tuple[float, str, str]] = {}
    for weights in entry.weights:
        for where, score in [*weights.scores.items()][:1]:
            data = where.partition("/")[0]
            if score.top1 is not None:
                value, measure, _ = measured(where, score)
                how = f"`{weights.tag}`" + (f", {weights.epochs} epochs" if weights.epochs else "")
                claims[data] = max(claims.get(data, (0.0, "", "")), (value, measure, how))
    return "; ".join(f"{value:.2f}%{measure} on {data} ({how})" for data, (value, measure, how) in claims.items())


def lineage(models: list[Listed]) -> str:
    """A line an idea: when, how large, how good."""
    found = {weights.name: (entry, weights) for entry in models for weights in entry.weights}
    lines = [
        "| idea | weights | paper | parameters | data | epochs | score | 95% interval |",
        "|---|---|---|---:|---|---:|---:|---|",
    ]
    for idea, name in STORY:
        entry, weights = found[name]
        paper = cited(entry.model.paper) if entry.model.paper else ""
        for where, score in weights.scores.items():
            value, measure, interval = measured(where, score)
            shown = f"{value:.2f}%{measure}"
            data = where.removesuffix("/test")
            facts = [idea, f"`{name}`", paper, f"{params_of(entry.model, weights):,}", data, str(weights.epochs or "")]
            lines.append(f"| {' | '.join([*facts, shown, interval])} |")
    return "\n".join(lines)


PAGES = {
    ROOT / "README.md": {"embedded weights": embedded_weights, "families": families},
    ROOT / "docs" / "lineage.md": {"lineage": lineage},
}


def render(page: Path) -> str:
    """The text of ``page`` with what lies between ``<!-- NAME -->`` and ``<!-- end -->`` made anew."""
    text = page.read_text(encoding="utf-8")
    models = registry.current().models()
    for name, table in PAGES[page].items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, lambda m, t=table: f"{m[1]}{t(models)}\n{m[2]}", text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"{page.name} has {count} places for the table {name!r}, expected one.")
    return text


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(render(page), encoding="utf-8")
