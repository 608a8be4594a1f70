"""Writes the tables of the pages of docs/: ``python docs/tables.py``.

A test checks that the pages are up to date.
"""

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from zoo import registry
from zoo.data.augmentation import Affine, Augmentation, ColorJitter, RandAugment, ResizedCrop
from zoo.evaluation import agreement
from zoo.loading import safetensors_file
from zoo.manifest import Release, Score, Spread, Weights
from zoo.manifest.schema import History, License, Probe, ProbedImage, Protocol, Tolerance
from zoo.registry import Listed
from zoo.registry.listing import params_of
from zoo.spec import (
    Argument,
    AttackMethod,
    DatasetSpec,
    Described,
    ExportPass,
    KeyMap,
    LookQuestion,
    Model,
    Paper,
    Plugin,
    Preprocess,
    Reader,
    Requirement,
    Spec,
)
from zoo.statistics import holm, wilson
from zoo.testing import checks
from zoo.training import choice, reproduce
from zoo.training.recipe import Adversary, Distill, Expectation, Lookahead, Progressive, Recipe
from zoo.trust.lock import Lock, Locked, Repository
from zoo.trust.policy import Policy, Rule
from zoo.trust.signing import Publisher
from zoo_experiment import experiments

ROOT = Path(__file__).parents[1]

ROWS: tuple[type[Spec], ...] = (
    Plugin,
    Model,
    Preprocess,
    Paper,
    Requirement,
    Argument,
    DatasetSpec,
    AttackMethod,
    LookQuestion,
    ExportPass,
    Reader,
    KeyMap,
    Described,
)
"""What a plugin's author writes, in the order of docs/plugins.md."""

FILES: dict[str, tuple[type[msgspec.Struct], ...]] = {
    "recipes": (
        *(Recipe, Expectation, Lookahead, Progressive, Augmentation, Affine, ResizedCrop, ColorJitter, RandAugment),
        *(Adversary, Distill),
    ),
    "manifests": (
        *(Weights, Release, License, Score, Spread, Protocol, History, Preprocess),
        *(Probe, ProbedImage, Tolerance),
    ),
    "locks": (Lock, Locked, Repository),
    "policies": (Policy, Rule, Publisher),
}
"""What the files of docs/fields.md hold."""

STORY = (
    ("simple and complex cells in layers, learned without gradients", "neocognitron_2013.mnist"),
    ("Gabor filters, max pooling, image patches", "hmax.caltech101"),
    ("histograms of oriented gradients, linear SVM", "hog_svm.c10"),
    ("SIFT, visual words, k-nearest neighbours", "sift_bovw_knn.caltech101"),
    ("SIFT, visual words, decision tree", "sift_bovw_tree.caltech101"),
    ("SIFT, Fisher vectors, linear SVM", "sift_fisher_svm.caltech101"),
    ("one layer of filters learned without labels (k-means)", "kmeans_svm.c10"),
    ("scattering transform, linear layer", "scatter_linear.c10"),
    ("scattering transform, small network", "scatter_cnn_small.c10"),
    ("five learned layers and dropout", "alexnet_small.c10"),
    ("parallel filters of several sizes, 1x1 reductions", "googlenet_small.c10"),
    ("56 layers without shortcuts", "plain56.c10"),
    ("56 layers with shortcuts", "resnet56.c10"),
    ("the same, with blocks left out at random in training", "resnet56_sd.c10"),
    ("every layer sees all earlier feature maps", "densenet_bc_40_12.c10"),
    ("many paths in place of shortcuts", "fractalnet20_narrow.c10_local"),
    ("shortcuts over shortcuts", "ror3_56.c10"),
    ("the same, with blocks left out at random in training", "ror3_56_sd.c10"),
    ("20 layers, trained for 60 epochs", "resnet20.c10"),
    ("a speed record's recipe, ten epochs", "airbench94.c10"),
    ("learned filters modulated by Gabor filters", "gcn4_3x3.mnist"),
    ("the same, on rotated digits", "gcn4_3x3.mnist_rot_50k"),
    ("rotating filters, on rotated digits", "orn8_align.mnist_rot"),
    ("a learned spatial transformation of the input, on distorted digits", "stn_cnn_mnist.mnist_rts"),
    ("difference target propagation in place of backpropagation", "dtp_mlp.mnist_50k"),
    ("the same network by backpropagation", "dtp_mlp.mnist_backprop"),
)
"""Ideas and the weights that demonstrate them, in order of appearance on the page."""


def embedded_weights(models: list[Listed]) -> str:
    """Returns a row for each weights file that ships with the distribution, with its score."""
    lines = [
        "| weights | epochs | scored on | correct | score | 95% interval | on all images | published, % "
        "| where its protocol differs |",
        "|---|---:|---|---:|---:|---|---|---|---|",
    ]
    for entry in models:
        for weights in entry.weights:
            if not weights.hub.startswith("embedded:"):
                continue
            for where, score in weights.scores.items():
                value, how, interval = measured(where, score)
                mark = " (default)" * (len(entry.weights) > 1 and weights.tag == default_tag(entry))
                lines.append(
                    f"| `{weights.name}`{mark} | {weights.epochs or ''} | {where} | {score.correct:,} of {score.n:,} "
                    f"| {value:.2f}%{how}{of_trainings(score)} | {interval} | {on_all(score)} "
                    f"| {' | '.join(published(entry, weights, where))} |"
                )
    return "\n".join(lines)


def on_all(score: Score) -> str:
    """Returns the least and the largest top-1 on the whole data set, if the score leaves images out."""
    return "{:.2f} to {:.2f}".format(*score.bounds) if score.bounds else ""


def of_trainings(score: Score) -> str:
    """Returns mean, standard deviation and number of several trainings, if there were several."""
    return f"; {score.spread.words}" if score.spread else ""


def other_weights(models: list[Listed]) -> str:
    """Returns a row for each weights file that is downloaded, with the first score of its manifest entry."""
    lines = ["| weights | scored on | top-1 | source | licence | size | sha256 |", "|---|---|---:|---|---|---:|---|"]
    for _, entries in by_family(models):
        downloaded = [(entry, one) for entry in entries for one in entry.weights if not one.hub.startswith("embedded:")]
        for entry, weights in downloaded:
            where, score = next(iter(weights.scores.items()), ("", None))
            top1 = f"{score.top1:.2f}%" if score and score.top1 is not None else ""
            size = f"{weights.size / 1e6:.1f} MB" if weights.size else ""
            source, pin = in_a_cell(score.source) if score else "", weights.sha256[:8] or "not pinned"
            name = f"`{weights.name}`" + " (default)" * (len(entry.weights) > 1 and weights.tag == default_tag(entry))
            facts = [name, where, top1, source, in_a_cell(weights.license.weights), size, pin]
            lines.append(f"| {' | '.join(facts)} |")
    return "\n".join(lines)


def published(entry: Listed, weights: Weights, where: str) -> tuple[str, str]:
    """Returns what others report for the same network and data, and where their protocol differs from ours.

    The star marks a figure that was quoted and not confirmed in its source.
    """
    for figure in choice.published(entry.row.plugin, entry.model.name, weights.args):
        if f"{figure.data}/test" == where:
            value = figure.top1 if figure.mean_class is None else figure.mean_class
            star = "" if figure.confirmed else "\\*"
            difference = figure.protocol.beside(weights.protocol_of(weights.scores[where]))
            return in_a_cell(f"{value:g}{star} ({figure.source})"), in_a_cell(difference)
    return "", ""


def measured(where: str, score: Score) -> tuple[float, str, str]:
    """Returns the score as papers report it, a note if that is not top-1 of one view, and the 95% interval of top-1.

    Classes of Caltech-101 differ in size, so papers report the mean over classes.
    """
    if where.startswith("caltech101") and score.mean_class is not None:
        return score.mean_class, " (mean of classes)", ""
    low, high = (100 * share for share in wilson(score.correct or 0, score.n))
    views = score.protocol.words().get("views", "") if score.protocol and score.protocol.views != 1 else ""
    return score.top1 or 0.0, views and f" ({views})", f"{low:.2f} to {high:.2f}" if score.correct is not None else ""


def summary(models: list[Listed]) -> str:
    """Returns a row for each built-in family."""
    lines = ["| family | papers | models | weights | CIFAR-10 | ImageNet |", "|---|---|---:|---:|---:|---:|"]
    for name, entries in by_family(models):
        first, last = min(years(entries)), max(years(entries))
        papers = f"{first} to {last}" if first < last else f"{first}"
        files = sum(len(entry.weights) for entry in entries)
        scores = f"{highest(entries, 'cifar10')} | {highest(entries, 'imagenet-1k')}"
        lines.append(f"| `{name}` | {papers} | {len(entries)} | {files or ''} | {scores} |")
    return "\n".join(lines)


def highest(entries: list[Listed], data: str) -> str:
    """Returns the best top-1 on ``data`` of any weights of a family."""
    claims = [
        score.top1
        for entry in entries
        for weights in entry.weights
        for where, score in weights.scores.items()
        if where.partition("/")[0] == data and score.top1 is not None
    ]
    return f"{max(claims):.2f}%" if claims else ""


def families(models: list[Listed]) -> str:
    """Returns a table of architectures for each built-in family."""
    return "\n".join(family(name, entries) for name, entries in by_family(models))


def by_family(models: list[Listed]) -> list[tuple[str, list[Listed]]]:
    """Returns the built-in families with their models, oldest paper first."""
    groups: dict[str, list[Listed]] = {}
    for entry in models:
        if entry.row.is_builtin:
            groups.setdefault(entry.row.name, []).append(entry)
    return sorted(groups.items(), key=lambda it: years(it[1]))


def years(entries: list[Listed]) -> list[int]:
    return sorted({entry.model.paper.year for entry in entries if entry.model.paper})


def family(name: str, entries: list[Listed]) -> str:
    """Returns a collapsible section with a row for each model."""
    when = ", ".join(map(str, years(entries)))
    files = sum(len(entry.weights) for entry in entries)
    lines = [
        f"<details><summary><b>{name}</b> ({when}): {len(entries)} models, {files} weights</summary>",
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
    weights = str(len(entry.weights) or "") + (f", default `{default_tag(entry)}`" if len(entry.weights) > 1 else "")
    return f"| `{entry.name}` | {paper} | {about.params:,} | {macs} | {weights} | {best(entry)} |"


def default_tag(entry: Listed) -> str:
    """Returns the tag of the weights that the model's name alone means."""
    default = registry.current().default_of(entry.row, entry.model)
    return default.tag if default else ""


def cited(paper: Paper) -> str:
    """Returns a short citation, such as He et al. 2015."""
    first, *others = paper.authors.split(", ")
    more = {0: "", 1: f" and {others[0].split()[-1]}" if others else ""}.get(len(others), " et al.")
    return f"{first.split()[-1]}{more} {paper.year}"


def best(entry: Listed) -> str:
    """Returns the highest score for each data set, with the weights' tag and, if known, their epochs.

    Only the first score of each weights file counts.
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
    """Returns a row for each idea: score, budget, size and paper."""
    found = {weights.name: (entry, weights) for entry in models for weights in entry.weights}
    lines = [
        "| idea | weights | score | 95% interval | published, % | where its protocol differs "
        "| epochs | data | parameters | paper |",
        "|---|---|---:|---|---|---|---:|---|---:|---|",
    ]
    for idea, name in STORY:
        entry, weights = found[name]
        paper = cited(entry.model.paper) if entry.model.paper else ""
        for where, score in weights.scores.items():
            value, measure, interval = measured(where, score)
            facts = [
                idea,
                f"`{name}`",
                f"{value:.2f}%{measure}{of_trainings(score)}",
                interval,
                *published(entry, weights, where),
            ]
            facts += [
                str(weights.epochs or ""),
                where.removesuffix("/test"),
                f"{params_of(entry.model, weights):,}",
                paper,
            ]
            lines.append(f"| {' | '.join(facts)} |")
    return "\n".join(lines)


def exports(models: list[Listed]) -> str:
    """Returns a row for each embedded weight in docs/export.json: its ONNX file beside torch, and its scores."""
    found = json.loads((ROOT / "docs" / "export.json").read_text(encoding="utf-8"))
    lines = [
        "| weights | scored on | difference | correct in torch | ONNX, float32 | ONNX, int8 |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for entry in models:
        for weights in entry.weights:
            full, small = (found.get(precision, {}).get(weights.name) for precision in ("float32", "int8"))
            if full is None:
                continue
            where, score = next(iter(weights.scores.items()))
            facts = [f"`{weights.name}`", where]
            if "error" in full:
                facts += ["", f"{score.correct:,} of {score.n:,}", f"not possible: {in_a_cell(full['error'])}", ""]
            else:
                quantised = f"{small['correct']:,}" if small and "correct" in small else ""
                facts += [f"{full['difference']:.1e}", f"{score.correct:,} of {score.n:,}", f"{full['correct']:,}"]
                facts += [quantised]
            lines.append(f"| {' | '.join(facts)} |")
    return "\n".join(lines)


AGAIN = {
    **dict.fromkeys(["kmeans_svm.c10", "resnet20.c10_e8"], "all tensors equal"),
    **dict.fromkeys(["airbench94.c10", "plain32.c10"], "the same file"),
    **dict.fromkeys(
        ["plain20.c10_e30", "resnet20.c10_e30"],
        "the same file, also [with `--keep-epochs`](looking.md#a-training-as-it-went)",
    ),
    "resnet20.digits": "the same file, at e44a0ca27013, without AMX",
    "sift_bovw_tree.caltech101": "the same file, at e44a0ca27013; other tensors on another CPU",
    **dict.fromkeys(
        [
            *("resnet20.digits_robust", "hog_svm.c10"),
            *("sift_bovw_knn.caltech101", "sift_fisher_svm.caltech101"),
        ],
        "other tensors on another CPU",
    ),
}
"""Outcomes of training weights again from their record; the others have not been."""

TOOK = {
    "airbench94.c10": "16 min",
    "alexnet_small.c10": "1.1 h",
    "densenet_bc_40_12.c10": "1.6 h",
    "fractalnet20_narrow.c10": "0.5 h",
    "fractalnet20_narrow.c10_local": "0.7 h",
    "gcn4_3x3.mnist_rot": "0.6 h",
    "googlenet_small.c10": "1.4 h",
    "hog_svm.c10": "79 s",
    "kmeans_svm.c10": "at most 384 s",
    "orn8_align.mnist_rot": "22 min",
    "plain20.c10_e30": "0.5 h",
    "plain32.c10": "0.6 h",
    "plain44.c10": "1.2 h",
    "plain56.c10": "1.6 h",
    "resnet20.c10_e30": "0.5 h",
    "resnet20.digits": "27 s",
    "resnet32.c10": "0.7 h",
    "resnet44.c10": "1.2 h",
    "resnet56.c10": "2.0 h",
    "resnet56_sd.c10": "4.8 h",
    "ror3_56.c10": "1.4 h",
    "ror3_56_sd.c10": "5.0 h",
    "scatter_cnn_small.c10": "about 70 min",
    "scatter_linear.c10": "about 26 min",
    "sift_bovw_knn.caltech101": "20 s",
    "sift_bovw_tree.caltech101": "20 s",
    "sift_fisher_svm.caltech101": "87 s",
    "stn_cnn_mnist.mnist_rts": "about 120 min",
}
"""Times of one core in the logs of trainings, as docs/experiments.md and the recipes state them; machines differ."""


def records(models: list[Listed]) -> str:
    """Returns a row for each embedded weight: what its run record says of command and code, and what it costs."""
    lines = [
        "| weights | command | code | epochs x images | PFLOP | took | trained again |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    for entry in models:
        for weights in entry.weights:
            if weights.hub.startswith("embedded:"):
                file = ROOT / "weights_manifest" / weights.repo / weights.file
                run = safetensors_file.metadata(file)["run"]
                command = f"`{run['command']}`"
                if not run["command"]:
                    command = f"derived: `{reproduce.training_of(weights)['derived command']}`"
                commit, dash, _ = run.get("code", "").partition("-")
                code = f"{commit[:12]}, with changes that were not committed" if dash else commit[:12]
                images, recipe = run["data"]["train"]["n"], msgspec.convert(run["recipe"], Recipe)
                amount = choice.pflop(entry.model, images, recipe)
                size = f"{images:,}" if entry.model.fitted else f"{recipe.epochs} x {images:,}"
                facts = [f"`{weights.name}`", command, code, size, f"{amount:.2g}" if amount else ""]
                facts += [TOOK.get(weights.name, ""), AGAIN.get(weights.name, "")]
                lines.append(f"| {' | '.join(facts)} |")
    return "\n".join(lines)


COMPARED = (
    ("resnet20.c10", "plain20.c10"),
    ("resnet56.c10", "plain56.c10"),
    ("resnet56.c10", "resnet20.c10_e30"),
    ("resnet56.c10", "ror3_56.c10"),
    ("resnet56_sd.c10", "ror3_56_sd.c10"),
    ("fractalnet20_narrow.c10_local", "fractalnet20_narrow.c10"),
    ("densenet_bc_40_12.c10", "resnet20.c10_e30"),
)
"""Pairs of networks of the lecture, on the same images."""


def compared(_models: list[Listed]) -> str:
    """Returns a row for each pair of networks, from their published answers, and what is hard for all of them."""
    pairs = [agreement.compare(*pair) for pair in COMPARED]
    lines = [
        "| first | second | only the first right | only the second | p, corrected | shared errors | if independent |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for pair, p in zip(pairs, holm([pair.p for pair in pairs]), strict=True):
        shares = [f"{100 * (share or 0):.1f}%" for share in (pair.overlap, pair.overlap_by_chance)]
        facts = [
            f"`{pair.first}`",
            f"`{pair.second}`",
            str(pair.only_first),
            str(pair.only_second),
            f"{p:.2g}",
            *shares,
        ]
        lines.append(f"| {' | '.join(facts)} |")
    hard = agreement.hardest("cifar10/test")
    lines += [
        "",
        f"Of the {hard.n:,} images, all {len(hard.weights)} networks classify {hard.right_by[-1]:,} correctly, and none"
        f" {hard.right_by[0]:,}.",
    ]
    return "\n".join(lines)


TRAININGS = (
    ("dtp_mlp.mnist_50k", "dtp_mlp.mnist_backprop"),
    ("gcn4_3x3.mnist_rot_60k", "gcn4_3x3.mnist_rot_50k"),
)
"""Pairs of weights, of several trainings each, that are compared."""


def trainings(models: list[Listed]) -> str:
    """Returns a row for each score of several trainings, and the comparison of some."""
    lines = [
        "| weights | scored on | trainings | mean ± standard deviation, % | lowest to highest | the one that ships |",
        "|---|---|---:|---:|---|---:|",
    ]
    for entry in models:
        for weights in entry.weights:
            for where, score in weights.scores.items():
                if (spread := score.spread) is not None:
                    facts = [f"`{weights.name}`", where, str(spread.n), f"{spread.mean:.2f} ± {spread.deviation:.2f}"]
                    facts += [f"{min(spread.top1):.2f} to {max(spread.top1):.2f}", f"{score.top1:.2f}"]
                    lines.append(f"| {' | '.join(facts)} |")
    lines += ["", "| first | second | difference of the means | 95% interval | p |", "|---|---|---:|---|---:|"]
    for first, second in TRAININGS:
        of = agreement.compare(first, second).trainings
        assert of is not None
        low, high = of.interval
        lines.append(f"| `{first}` | `{second}` | {of.difference:+.2f} | {low:.2f} to {high:.2f} | {of.p:.2g} |")
    return "\n".join(lines)


def of_experiment(name: str) -> Callable[[list[Listed]], str]:
    """Returns the scores of an experiment as ``zoo experiment NAME`` prints them, and what they decide."""

    def table(_models: list[Listed]) -> str:
        outcome = experiments.published(name)
        titles, rows = outcome.table()
        lines = [f"| {' | '.join(titles)} |", "|---" + "|---:" * (len(titles) - 2) + "|---|"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([*lines, "", *(f"- {decision.words}" for decision in outcome.decisions)])

    return table


def claims(_models: list[Listed]) -> str:
    """Returns a row for each experiment: what the lecture and the paper say, and what came out."""
    lines = ["| `zoo experiment` | the lecture | the paper | came out | trains |", "|---|---|---|---|---|"]
    for name, about in experiments.experiments().items():
        ways = ["`--quick`", "`--full`"] if about.quick is not None else ["`--full`"]
        came_out = experiments.published(name).verdict if about.is_published else ""
        facts = (f"`{name}`", about.lecture, f"{about.paper} ({about.source})", came_out, ", ".join(ways))
        lines.append(f"| {' | '.join(map(in_a_cell, facts))} |")
    return "\n".join(lines)


PROMISES = {
    "what the row says": ("row", "parameters", "macs", "weights"),
    "methods": ("interface", "methods", "groups"),
    "head and stem": ("num_classes", "in_chans", "reset_classifier"),
    "feature maps": ("features", "intermediates", "features_only"),
    "values": ("forward", "determinism", "skipped_initialisation", "round_trip"),
    "gradients": ("gradients", "attack"),
    "checkpointing": ("checkpointing",),
    "copy, pickle": ("copies",),
    "channels_last, bf16": ("layouts",),
    "jit.trace": ("traced",),
    "export": ("exported",),
    "any size": ("resized",),
    "compile": ("compiled",),
    "look": ("look",),
}
"""Checks of the conformance kit by the column that counts them."""


def conformance(models: list[Listed]) -> str:
    """Returns a row for each family: how many checks passed, did not apply and failed. Then the reasons."""
    measured = json.loads((ROOT / "docs" / "conformance.json").read_text(encoding="utf-8"))
    lines = [f"| family | models | {' | '.join(PROMISES)} |", "|---|---:|" + "---|" * len(PROMISES)]
    reasons = []
    for family, entries in by_family(models):
        if family not in measured:  # a collection
            continue
        checks = measured[family]["checks"]
        cells = []
        for names in PROMISES.values():
            results = [checks[check] for check in names if check in checks]
            absent, failed = (sum(len(result[how]) for result in results) for how in ("inapplicable", "failed"))
            cell = f"{sum(result['passed'] for result in results)}"
            cells.append(cell + (f" ({absent} n/a)" if absent else "") + (f", {failed} failed" if failed else ""))
        lines.append(f"| `{family}` | {len(entries)} | {' | '.join(cells)} |")
        reasons += [f"- `{family}`: {reason}" for reason in reasons_of(checks)]
    return "\n".join([*lines, "", *reasons])


def reasons_of(checks: dict[str, dict[str, Any]]) -> list[str]:
    """Lists why checks do not apply or fail, each reason once, with the checks and the networks."""
    groups: dict[tuple[str, str], tuple[dict[str, None], dict[str, None]]] = {}
    for check, result in checks.items():
        for how, label in (("failed", "**failed**"), ("inapplicable", "n/a")):
            for name, reason in result[how].items():
                plain = " ".join(reason.split()).removeprefix(f"{name} is ").removesuffix(".")
                kinds, names = groups.setdefault((label, plain), ({}, {}))
                kinds[check] = names[f"`{name}`"] = None
    return [
        f"{', '.join(kinds)} {label} to {', '.join(names)}: {reason}."
        for (label, reason), (kinds, names) in groups.items()
    ]


def in_a_cell(text: str) -> str:
    """Returns ``text`` as a cell of a table, in which a bar would end it."""
    return " ".join(text.split()).removesuffix(".").replace("|", "\\|")


def promises(_models: list[Listed]) -> str:
    """Returns a row for each check of the conformance kit."""
    lines = ["| check | promise | if it fails |", "|---|---|---|"]
    for promise in checks.every():
        text, _, fix = (promise.__doc__ or "").partition("Fix:")
        text, fix = (" ".join(part.split()).replace("``", "`").replace("|", "\\|") for part in (text, fix))
        text = text.removeprefix("Checks that").lstrip(", ")
        text = text[:1].upper() + text[1:]
        text += " Since contract 2." if promise in checks.SINCE_2 else ""
        lines.append(f"| `{promise.__name__}` | {text} | {fix[:1].upper()}{fix[1:]} |")
    return "\n".join(lines)


def fields(*kinds: type[msgspec.Struct]) -> Callable[[list[Listed]], str]:
    """Returns a table of the fields of each of ``kinds``, with the words of their docstrings."""
    return lambda _models: "\n".join(map(of_struct, kinds))


def of_struct(kind: type[msgspec.Struct]) -> str:
    """Returns a heading, what the struct is, and its fields with type, default and meaning."""
    first = ""
    meanings: dict[str, str] = {}
    for base in reversed([base for base in kind.__mro__ if issubclass(base, msgspec.Struct)]):
        first, _, rest = inspect.cleandoc(base.__doc__ or "").partition("Args:\n")
        rest = re.split(r"^(?:Raises|Example):", rest, flags=re.MULTILINE)[0]
        meanings |= dict(re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", rest, re.MULTILINE))
    lines = [
        f"### `{kind.__name__}`",
        "",
        plain(first),
        "",
        "| field | type | default | meaning |",
        "|---|---|---|---|",
    ]
    for field in msgspec.structs.fields(kind):
        default = "" if field.required else f"`{shown_default(field)}`"
        meaning = plain(meanings[field.name])
        lines.append(f"| `{field.name}` | `{shown_type(field.type)}` | {default} | {meaning} |")
    return "\n".join([*lines, ""])


def plain(text: str) -> str:
    """Returns the text of a docstring as Markdown."""
    return re.sub(r":\w+:`~?([\w.]+)`", r"`\1`", " ".join(text.split()).replace("``", "`")).replace("|", "\\|")


BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def shown_type(annotation: Any) -> str:
    """Returns ``tuple[str, ...]`` for an annotation: without modules, with the bounds of numbers."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        meta = [found for found in args[1:] if isinstance(found, msgspec.Meta)]
        bounds = [
            f"{sign} {value}"
            for name, sign in BOUNDS.items()
            for one in meta
            if (value := getattr(one, name)) is not None
        ]
        return " ".join([shown_type(args[0]), ", ".join(bounds)]).rstrip()
    if origin is Literal:
        return " or ".join(map(repr, args))
    if origin in (Union, UnionType):
        return " or ".join(map(shown_type, args))
    if args and origin is not None:
        return f"{origin.__name__}[{', '.join('...' if part is ... else shown_type(part) for part in args)}]"
    return "None" if annotation is NoneType else str(getattr(annotation, "__name__", annotation))


def shown_default(field: msgspec.structs.FieldInfo) -> str:
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return f"{type(value).__name__}()" if isinstance(value, msgspec.Struct) else repr(value)


PAGES = {
    ROOT / "docs" / "models.md": {
        "summary": summary,
        "embedded weights": embedded_weights,
        "other weights": other_weights,
        "families": families,
    },
    ROOT / "docs" / "lineage.md": {"lineage": lineage},
    ROOT / "docs" / "experiments.md": {
        "claims": claims,
        "trainings": trainings,
        **{name: of_experiment(name) for name, about in experiments.experiments().items() if about.is_published},
    },
    ROOT / "docs" / "export.md": {"exports": exports},
    ROOT / "docs" / "reproducing.md": {"records": records},
    ROOT / "docs" / "scores.md": {"compared": compared},
    ROOT / "docs" / "conformance.md": {"conformance": conformance},
    ROOT / "docs" / "plugins.md": {"promises": promises, "fields": fields(*ROWS)},
    ROOT / "docs" / "fields.md": {name: fields(*kinds) for name, kinds in FILES.items()},
}


def render(page: Path) -> str:
    """Returns the text of ``page`` with the tables between ``<!-- NAME -->`` and ``<!-- end -->`` generated again."""
    text = page.read_text(encoding="utf-8")
    models = registry.current().models()
    for name, table in PAGES[page].items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, lambda m, t=table: f"{m[1]}{t(models)}\n{m[2]}", text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"{page.name} has {count} markers for the table {name!r}, expected one.")
    return text


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(render(page), encoding="utf-8")
