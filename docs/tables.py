"""Writes the tables of README.md that follow from the registry: ``python docs/tables.py``.

A test holds README.md against them.
"""

import re
from pathlib import Path

from zoo import registry
from zoo.evaluation import wilson
from zoo.registry import Listed

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
    """Every built-in architecture, a line a paper."""
    lines = ["| family | paper | models | published weights |", "|---|---|---|---:|"]
    groups: dict[tuple[str, str], list[Listed]] = {}
    for entry in models:
        if entry.row.is_builtin and entry.model.paper is not None:
            paper = entry.model.paper
            words = f"[{paper.title}]({paper.url}), {paper.year}"
            groups.setdefault((entry.row.name, words), []).append(entry)
    for (family, paper), entries in groups.items():
        names = ", ".join(f"`{entry.name}`" for entry in entries)
        lines.append(f"| {family} | {paper} | {names} | {sum(len(entry.weights) for entry in entries)} |")
    return "\n".join(lines)


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
