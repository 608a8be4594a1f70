"""The files that hubs read of a release: the card README.md with its front matter, and ``.eval_results/*.yaml``."""

import re
from typing import TYPE_CHECKING, Any

from zoo import names
from zoo.manifest import Score, Weights
from zoo.spec import Model
from zoo.statistics import percent_interval, wilson
from zoo_publish.source import Run

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

EVAL_RESULTS = ".eval_results/zoo.yaml"


def render(
    entry: Weights, model: Model, run: Run | None, files: list[str], notes: list[str], base_model: str = ""
) -> str:
    """Returns the card of ``entry`` on a hub: front matter and body.

    ``base_model`` is the hub's repository of the weights that the training started from.
    """
    text = body(entry, model, run, [*files, "README.md"], notes)
    return f"---\n{_front_matter(entry, base_model)}\n---\n\n{text}"


def body(
    entry: Weights, model: Model, run: Run | None, files: list[str], notes: list[str], distribution: str = ""
) -> str:
    """Returns the card of ``entry`` in Markdown: scores, use, input, origin, licences, files.

    ``distribution`` is what pip installs to have the weights, if they are on a package index.
    """
    parts = [
        f"# {text_of(entry.name)}",
        _opening(entry, model),
        "## Scores\n\n" + _scores(entry),
        "## Use\n\n" + _use(entry, distribution),
        "## Input\n\n" + _input(entry),
        "## Origin\n\n" + _origin(entry, run, model.fitted),
        "## Licences\n\n" + _table(("of the", "licence"), [(key, text_of(getattr(entry.license, key))) for key in _OF]),
        "## Files\n\n" + _files(files, notes),
    ]
    return "\n\n".join(parts) + "\n"


_OF = ("code", "weights", "data")

_ABOUT_FILES = {
    "model.safetensors": "the tensors, with metadata in the header",
    "weights.toml": "the manifest entry: hash, size, input, scores, probe",
    "manifest.toml": "the manifest entry: hash, size, input, scores, probe",
    "LICENSE": "what is licensed how",
    "run.json": "the run record: recipe, data, versions, command",
    "log.jsonl": "the training log, a row per epoch",
    "config.json": "timm's configuration: `timm.create_model('hf-hub:OWNER/REPO', pretrained=True)`",
    EVAL_RESULTS: "the scores in the format of the Hugging Face Hub",
    "README.md": "this card",
}


def _front_matter(entry: Weights, base_model: str) -> str:
    from huggingface_hub import ModelCardData

    results = model_index(entry)
    license = entry.license.weights
    is_known = license.casefold() in LICENSES
    data = ModelCardData(
        license=license.casefold() if is_known else "other",
        license_name=None if is_known else license,
        library_name="zoo-vision",
        pipeline_tag="image-classification" if entry.num_classes else "image-feature-extraction",
        tags=["zoo-vision", "safetensors", entry.arch],
        datasets=[hub_name(entry.classes) or entry.classes] if entry.classes else None,
        base_model=base_model or None,
        model_name=entry.name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml().strip()


def _opening(entry: Weights, model: Model) -> str:
    paper = model.paper
    of = f", the network of {text_of(paper.authors)}, *{text_of(paper.title)}*, {paper.year}" if paper else ""
    link = f" ({paper.url})" if paper and paper.url else ""
    classes = f", for the {entry.num_classes} classes of {text_of(entry.classes)}" if entry.classes else ""
    return f"`{model.name}`{of}{link}{classes}. {entry.size:,} bytes, sha256 `{entry.sha256}`."


def _scores(entry: Weights) -> str:
    if not entry.scores:
        return "None measured."
    rows = [
        (text_of(where), _percent(score), _interval(score), f"{score.n:,}") for where, score in entry.scores.items()
    ]
    text = _table(("on", "top-1", "95% interval (Wilson)", "images"), rows)
    for where, score in entry.scores.items():
        facts = [text_of(score.source), f"command {code_of(score.command)}" if score.command else ""]
        facts += [f"images {code_of(score.fingerprint)}" if score.fingerprint else ""]
        facts += [f"mean ± standard deviation (trainings) {score.spread.words}" if score.spread else ""]
        facts += [text_of(score.protocol.selection) if score.protocol else ""]
        facts += [f"top-5 {score.top5:.3f}%" if score.top5 is not None else ""]
        facts += [f"mean over classes {score.mean_class:.3f}%" if score.mean_class is not None else ""]
        text += f"\n\nOn {text_of(where)}: {'; '.join(filter(None, facts))}."
    return text


def _percent(score: Score) -> str:
    if score.top1 is None:
        return ""
    of = f" ({score.correct:,} of {score.n:,})" if score.correct is not None else ""
    return f"{score.top1:.3f}%{of}"


def _interval(score: Score) -> str:
    if score.correct is None or not score.n:
        return ""
    low, high = wilson(score.correct, score.n)
    return f"{100 * low:.3f}% to {100 * high:.3f}%"


def _use(entry: Weights, distribution: str) -> str:
    if distribution:
        return (
            f"`pip install {distribution}` makes the weights known to Zoo; the file is part of the distribution, and "
            f"nothing else is downloaded.\n\n{_EXAMPLE.format(name=entry.name)}"
        )
    needed = names.requirement(entry.distribution, entry.distribution_version)
    made = f"`{entry.distribution}` {entry.distribution_version}".rstrip()
    install = f"The model is part of the distribution {made}: `pip install '{needed}'`.\n\n"
    return (install if needed else "") + (
        "Copy the entry in `weights.toml` into `manifest.toml` in a folder of `ZOO_HUB`, or into your plugin's\n"
        "manifest. Zoo then verifies the file by the hash above.\n\n" + _EXAMPLE.format(name=entry.name)
    )


_EXAMPLE = """```python
import zoo

model = zoo.create({name!r}).eval()
logits = model(zoo.preprocess(model)(image)[None])  # image: a PIL image
```

`zoo verify {name}` runs the probe in the entry."""


def _input(entry: Weights) -> str:
    preprocess = entry.preprocess
    if preprocess is None:
        return "As for the architecture."
    size = " x ".join(map(str, preprocess.input_size))
    rows = [
        ("size", size),
        ("crop", f"{preprocess.crop_pct:g}, {preprocess.crop_mode}"),
        ("interpolation", preprocess.interpolation),
        ("mean", ", ".join(f"{value:g}" for value in preprocess.mean)),
        ("std", ", ".join(f"{value:g}" for value in preprocess.std)),
        ("whitening", preprocess.whitening),
    ]
    return _table(("", ""), rows)


def _origin(entry: Weights, run: Run | None, is_fitted: bool) -> str:
    text = f"{text_of(entry.origin.rstrip('.')) or 'Not stated'}."
    if run is None:
        return text
    rows = [("recipe", text_of(run.recipe.get("name", ""))), ("command", code_of(run.command) if run.command else "")]
    if run.gaps:
        text += f"\n\nThe training cannot be repeated from its record: {text_of('; '.join(run.gaps))}."
    rows += [("code", text_of(", ".join(f"{name} {code}" for name, code in run.sources.items() if code)))]
    shown = ("seed",) if is_fitted else ("epochs", "batch_size", "optimizer", "lr", "seed")
    rows += [(key, text_of(run.recipe[key])) for key in shown if key in run.recipe]
    for role, images in run.data.items():
        rows.append((f"{text_of(role)} images", f"{images.n:,} of {text_of(f'{images.name}/{images.split}')}"))
        rows.append(("", code_of(images.fingerprint)))
    rows.append(("versions", text_of(", ".join(f"{name} {version}" for name, version in run.versions.items()))))
    return text + "\n\n" + _table(("", ""), [row for row in rows if row[1]])


def _files(files: list[str], notes: list[str]) -> str:
    rows = [(f"`{file}`", _ABOUT_FILES.get(file, "")) for file in files]
    return "\n\n".join([_table(("file", "what it holds"), rows), *map(text_of, notes)])


def text_of(words: object) -> str:
    """Returns ``words`` as text on one line, with Markdown and HTML escaped."""
    return re.sub(r"[\\`*\[\]<>#|~]|(?<!\w)_|_(?!\w)", r"\\\g<0>", " ".join(str(words).split()))


def code_of(words: str) -> str:
    """Returns ``words`` as code on one line."""
    fence = "`" * (1 + max(map(len, re.findall("`+", words)), default=0))
    space = " " if len(fence) > 1 else ""
    return f"{fence}{space}{' '.join(words.split())}{space}{fence}"


def _table(titles: tuple[str, ...], rows: list[Any]) -> str:
    lines = [titles, tuple("---" for _ in titles), *rows]
    return "\n".join(
        "| " + " | ".join(re.sub(r"(?<!\\)\|", r"\\|", str(cell)) for cell in line) + " |" for line in lines
    )


LICENSES = frozenset(
    """
    apache-2.0 mit bsd-2-clause bsd-3-clause bsd-3-clause-clear cc cc0-1.0 cc-by-2.0 cc-by-3.0 cc-by-4.0
    cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-
    nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 gpl-2.0 gpl-3.0 lgpl-2.1 lgpl-3.0 agpl-3.0
    mpl-2.0 isc unlicense wtfpl zlib artistic-2.0 openrail unknown
    """.split()  # noqa: SIM905  # a list of strings would fill a page
)
"""Licences that the hub's front matter knows; another is ``other`` with its name."""


_TASK = "image-classification"
_HF = "hf:"
_ON_HUB = {
    "cifar10": "uoft-cs/cifar10",
    "mnist": "ylecun/mnist",
    "fashion_mnist": "zalando-datasets/fashion_mnist",
    "imagenet": "ILSVRC/imagenet-1k",
}
"""The Hub's names of data sets that Zoo knows under its own."""


def hub_name(dataset: str) -> str:
    """Returns the name of a data set on the Hub, empty if it is not there."""
    if dataset.startswith(_HF):
        return dataset.removeprefix(_HF).partition(":")[0]
    return _ON_HUB.get(dataset, "")


def model_index(entry: Weights) -> "list[EvalResult]":
    """Returns all scores of ``entry``: the card's results."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=_TASK,
            task_name="Image classification",
            dataset_type=hub_name(dataset) or dataset,
            dataset_name=dataset,
            dataset_split=split,
            metric_type="accuracy",
            metric_name=name,
            metric_value=_share(value),
        )
        for dataset, split, score in _scores_by_data(entry)
        for name, value in (("top-1 accuracy", score.top1), ("top-5 accuracy", score.top5))
        if value is not None
    ]


def render_eval_results(entry: Weights) -> bytes:
    """Returns the file of evaluation results, with the top-1 on each data set of the Hub; empty if there is none."""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
    from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]  # imported there without a type

    entries = [
        EvalResultEntry(
            dataset_id=hub_name(dataset), task_id=_TASK, value=_share(score.top1), notes=_notes(split, score)
        )
        for dataset, split, score in _scores_by_data(entry)
        if hub_name(dataset) and score.top1 is not None
    ]
    return yaml_dump(eval_result_entries_to_yaml(entries)).encode() if entries else b""


def _scores_by_data(entry: Weights) -> list[tuple[str, str, Score]]:
    return [(where.rpartition("/")[0], where.rpartition("/")[2], score) for where, score in entry.scores.items()]


def _share(percent: float) -> float:
    return round(percent / 100, 6)


def _notes(split: str, score: Score) -> str:
    """Returns what the value is of: the format has no field for the split, the number of images or an interval."""
    interval = percent_interval(score.top1 or 0.0, score.n, score.correct)
    facts = [f"top-1 accuracy on {split}, {score.n:,} images"]
    facts += [f"95% interval {interval[0] / 100:.4f} to {interval[1] / 100:.4f}"] if interval else []
    return ", ".join([*facts, *filter(None, (score.fingerprint, score.command or score.source))])
