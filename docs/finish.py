"""Finishes the site that zensical wrote in build/docs: ``python docs/finish.py [FOLDER]``, as ``make docs`` does.

Pages get a description, a card for shared links and a policy on what they may load; the search learns other spellings;
the first page links the networks that are there, and chapters share files with the gallery. ``SITE_ADDRESS`` is where
the site will be: cards need it for their picture. ``SITE_VERSIONS=1`` shows a menu of the versions that
``versions.json`` lists, one folder above the site.
"""

import base64
import hashlib
import html
import json
import os
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CARD = "screenshots/card.png"
SHARED = ("network.mjs", "digits.bin")
"""Files of the gallery that a chapter's page loads, too."""
NOT_FOUND = "404.html"
_SPACES = re.compile(r"\s+")

SPELLINGS = (
    ("colour", "color"), ("grey", "gray"), ("greyscale", "grayscale"), ("centre", "center"), ("licence", "license"),
    ("behaviour", "behavior"), ("neighbour", "neighbor"), ("artefact", "artifact"), ("catalogue", "catalog"),
    ("labelled", "labeled"), ("labelling", "labeling"), ("modelling", "modeling"), ("modelled", "modeled"),
    ("cancelled", "canceled"), ("analyse", "analyze"), ("favour", "favor"), ("metre", "meter"),
    ("defence", "defense"), ("fine-tune", "finetune"), ("fine-tuning", "finetuning"), ("fine-tuned", "finetuned"),
    ("fine-tune", "finetuning"), ("fine-tuning", "finetune"), ("data set", "dataset"), ("data sets", "datasets"),
    ("pre-trained", "pretrained"), ("air-gapped", "airgapped"), ("bfloat16", "bf16"), ("float16", "fp16"),
    ("half precision", "fp16"), ("top-1", "top1"), ("top-5", "top5"), ("hyper-parameter", "hyperparameter"),
    ("multi-GPU", "multigpu"), ("warm-up", "warmup"), ("check point", "checkpoint"),
)  # fmt: skip
"""Words with two spellings: who types the one finds the other."""

STEMS = (
    "equal|factor|final|general|harmon|initial|local|maxim|minim|normal|optim|organ|parallel|penal|quant|random|real"
    "|recogn|regular|sampl|serial|special|standard|token|util|vector|visual"
)
"""Words that end in -ise or -ize, before that."""


def other_spellings(text: str) -> list[str]:
    """Returns the words of ``text`` as others spell them, in order, without those that it has."""
    low = text.lower().replace("_", " ")
    words = set(re.findall(r"[a-z0-9-]+", low))
    others = []
    for pair in SPELLINGS:
        for here, there in (pair, pair[::-1]):
            if re.search(rf"\b{re.escape(here)}", low) and not re.search(rf"\b{re.escape(there)}", low):
                others.append(there)
    for word in sorted(words):
        if ends := re.fullmatch(rf"({STEMS})i([sz])((?:e|ed|es|er|ers|ing|ation|ations)?)", word):
            others.append(f"{ends[1]}i{'z' if ends[2] == 's' else 's'}{ends[3]}")
    return [word for word in dict.fromkeys(others) if word not in words]


def spell(site: Path) -> None:
    """Adds other spellings to the sections of the search's index."""
    file = site / "search.json"
    index = json.loads(file.read_text(encoding="utf-8"))
    for section in index["items"]:
        plain = html.unescape(re.sub(r"<[^>]+>", " ", f"{section['title']} {section['text']}"))
        if others := other_spellings(plain):
            section["text"] += f"<p>{html.escape(', '.join(others))}</p>"
    file.write_text(json.dumps(index, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def description_of(page: str) -> str:
    """Returns the beginning of the first paragraph of ``page``, whole words, at most 200 characters."""
    content = page.partition("<article")[2]
    for found in re.finditer(r"<p>(.*?)</p>", content, re.DOTALL):
        text = _SPACES.sub(" ", html.unescape(re.sub(r"<[^>]+>", "", found[1]))).strip()
        if len(text) >= 40:
            return text if len(text) <= 200 else text[:199].rpartition(" ")[0].rstrip(",;:") + "…"
    return ""


def policy_of(page: str) -> str:
    """Returns the Content-Security-Policy of ``page``: its own host, and the scripts that stand in it."""
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = sorted({base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts})
    allowed = " ".join(["'self'", *(f"'sha256-{value}'" for value in hashes)])
    return (
        f"default-src 'self'; script-src {allowed}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'"
    )


def head_of(page: str, place: str, address: str) -> str:
    """Returns the elements that the head of ``page`` gets; the policy comes first."""
    title = html.unescape(
        _SPACES.sub(" ", re.sub(r"<[^>]+>", "", re.findall(r"<title>(.*?)</title>", page, re.DOTALL)[0]))
    )
    about = description_of(page)
    up = "../" * place.count("/")
    named = {
        "og:type": "website",
        "og:site_name": "Zoo",
        "og:title": title.strip(),
        "og:description": about,
        "og:image": f"{address or up}{CARD}",
        "og:image:alt": "A photograph of a cup, and what a network says of it",
        "og:url": f"{address}{place}" if address else "",
    }
    lines = [f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy_of(page))}">']
    lines += [f'<meta property="{name}" content="{html.escape(value)}">' for name, value in named.items() if value]
    lines.append('<meta name="twitter:card" content="summary_large_image">')
    if about:
        lines.append(f'<meta name="description" content="{html.escape(about)}">')
    if address:
        lines.append(f'<link rel="canonical" href="{html.escape(address + place)}">')
    return "\n".join(lines)


def _with_room(cell: re.Match[str]) -> str:
    """Returns the tag of a table's cell, marked if its text is too long for a narrow column."""
    words = html.unescape(re.sub(r"<[^>]+>", "", cell[2]))
    return f'<td class="long"{cell[1]}>' if len(words) > 60 else cell[0]


def ways(site: Path) -> str:
    """Returns links to what the gallery in the site has."""
    pages = {
        "networks/index.html": "Gallery of networks",
        "networks/try.html": "Try it in the browser",
        "networks/train.html": "Train one in the browser",
    }
    there = {place: words for place, words in pages.items() if (site / place).is_file()}
    links = [f'<a class="md-button" href="{place}">{words}</a>' for place, words in there.items()]
    return f'<p class="ways">{" ".join(links)}</p>' if links else ""


def finish(site: Path, *, address: str = "", has_versions: bool = False) -> None:
    """Finishes ``site`` in place, but for the gallery in it, which has its own heads."""
    spell(site)
    shutil.copy(ROOT / "docs" / ".theme" / NOT_FOUND, site / NOT_FOUND)
    (site / "javascripts").mkdir(exist_ok=True)
    for name in SHARED:
        shutil.copy(ROOT / "plugins" / "zoo_gallery" / "assets" / name, site / "javascripts")
    for file in sorted(site.rglob("*.html")):
        place = file.relative_to(site).as_posix()
        page = file.read_text(encoding="utf-8")
        if place.startswith("networks/") or place == NOT_FOUND or "Content-Security-Policy" in page:
            continue
        page = re.sub(r'<meta name="description"[^>]*>', "", page)
        if place == "index.html":
            page = re.sub(r"<!-- The site has links to the gallery.*?-->", lambda _: ways(site), page)
        page = re.sub(r"<td([^>]*)>(?=(.*?)</td>)", _with_room, page, flags=re.DOTALL)
        page = re.sub(r"<th([^>]*)></th>", r"<td\1></td>", page)  # a heading of nothing
        if has_versions:
            page = page.replace('"version":null', '"version":{"provider":"mike"}')
        charset = re.search(r'<meta charset="?utf-8"?\s*/?>', page)
        assert charset is not None, place
        page = page[: charset.end()] + "\n" + head_of(page, place, address) + page[charset.end() :]
        file.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    where = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "docs"
    host = os.environ.get("SITE_ADDRESS", "").rstrip("/")
    finish(where, address=f"{host}/" if host else "", has_versions=os.environ.get("SITE_VERSIONS") == "1")
