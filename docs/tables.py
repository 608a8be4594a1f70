"""Writes the tables of README.md that follow from the registry: ``python docs/tables.py``.

A test holds README.md against them.
"""

import re
from pathlib import Path

from zoo import registry
from zoo.interval import wilson
from zoo.registry import Listed
from zoo.spec import Paper

README = Path(__file__).parents[1] / "README.md"


def embedded_weights(models: list[Listed]) -> str:
    """What ships with the distribution, and how often it is right."""
    lines = [
        "| weights | scored on | right | top-1 | 95% interval |",
        "|---|---|---:|---:|---|",
    ]
    for entry in models:
        for weights in entry.weights:
            if not weights.hub.startswith("embedded:"):
                continue
            for where, score in weights.scores.items():
                low, high = wilson(score.correct or 0, score.n)
                lines.append(
                    f"| `{weights.name}` | {where} | {score.correct:,} of {score.n:,} | {score.top1:.2f}% "
                    f"| {100 * low:.2f} to {100 * high:.2f} |"
                )
    return "\n".join(lines)


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
        "| model | paper | parameters | multiply-adds | weights | best top-1 |",
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
    """For each data set, the highest top-1 that any of its weights claims, and which; of weights, their first score."""
    claims: dict[str, tuple[float, str]] = {}
    for weights in entry.weights:
        for where, score in [*weights.scores.items()][:1]:
            data = where.partition("/")[0]
            if score.top1 is not None:
                claims[data] = max(claims.get(data, (0.0, "")), (score.top1, weights.tag))
    return "; ".join(f"{top1:.2f}% on {data} (`{tag}`)" for data, (top1, tag) in claims.items())


TABLES = {"embedded weights": embedded_weights, "families": families}


def render(text: str) -> str:
    """``text`` with the content between ``<!-- NAME -->`` and ``<!-- end -->`` made anew."""
    models = registry.load().models()
    for name, table in TABLES.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, lambda m, t=table: f"{m[1]}{t(models)}\n{m[2]}", text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"README.md has {count} places for the table {name!r}, expected one.")
    return text


if __name__ == "__main__":
    README.write_text(render(README.read_text(encoding="utf-8")), encoding="utf-8")
