"""The page of findings: one HTML file with thumbnails, which needs nothing else."""

from base64 import b64encode
from html import escape
from io import BytesIO
from pathlib import Path

from zoo.data.image_file import read_image
from zoo.errors import DataError
from zoo.system import storage
from zoo_datacheck.images import Doubt, Report

_SIDE = 112
_MOST = 60
"""Groups, or single images, that are shown of a finding."""

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin: 2.5rem 0 0; font-size: 1.1rem; } p { margin: .3rem 0; }
.error { border-left: .4rem solid #b3261e; padding-left: .8rem; }
.warning { border-left: .4rem solid #a06000; padding-left: .8rem; }
.note { border-left: .4rem solid #56707f; padding-left: .8rem; }
ul { list-style: none; display: flex; flex-wrap: wrap; gap: .8rem; padding: 0; }
li.group { display: flex; gap: .5rem; border: 1px solid #8885; border-radius: .4rem; padding: .4rem; }
figure { margin: 0; width: 7rem; font-size: .75rem; overflow-wrap: anywhere; }
img { max-width: 7rem; max-height: 7rem; image-rendering: auto; }
@media (prefers-color-scheme: dark) { body { background: #16191c; color: #e6e8ea; } }
"""


def write(report: Report, file: Path) -> None:
    """Writes the page about ``report``."""
    storage.replace(file, render(report).encode(errors="replace"))


def render(report: Report) -> str:
    """Returns the page about ``report`` as HTML; the names of files are escaped."""
    folder = Path(report.folder)
    doubts = {doubt.file: doubt for doubt in report.doubtful}
    sections = []
    for finding in report.findings:
        groups = finding.groups or tuple((file,) for file in finding.files)
        shown = "".join(
            _group(folder, group, doubts if finding.kind == "doubtful labels" else {}) for group in groups[:_MOST]
        )
        more = f"<p>And {len(groups) - _MOST:,} more: <code>--json</code> has all.</p>" if len(groups) > _MOST else ""
        sections.append(
            f'<section class="{finding.level}"><h2>{escape(finding.level)}: {escape(finding.message)}</h2>'
            f"<p>{escape(finding.advice)}</p>{f'<ul>{shown}</ul>' if shown else ''}{more}</section>"
        )
    title = f"{escape(folder.name)}: {report.images:,} images of {len(report.classes)} classes"
    body = "".join(sections) or "<p>Nothing was found.</p>"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style><h1>{title}</h1><p>Nothing was changed.</p>{body}</html>\n"
    )


def _group(folder: Path, files: tuple[str, ...], doubts: dict[str, Doubt]) -> str:
    return f'<li class="group">{"".join(_figure(folder, file, doubts.get(file)) for file in files[:12])}</li>'


def _figure(folder: Path, file: str, doubt: Doubt | None) -> str:
    name, about = escape(file), ""
    if doubt is not None:
        likelier = f"{escape(doubt.likelier)} {doubt.likelier_probability:.0%}"
        about = f"<br>{escape(doubt.label)} {doubt.probability:.1%}, {likelier}"
    return f"<figure>{_thumbnail(folder / file, name)}<figcaption>{name}{about}</figcaption></figure>"


def _thumbnail(file: Path, name: str) -> str:
    try:
        image = read_image(file, str(file), 3)
    except DataError:
        return ""
    image.thumbnail((_SIDE, _SIDE))
    stream = BytesIO()
    image.save(stream, "WEBP", quality=70)
    return f'<img src="data:image/webp;base64,{b64encode(stream.getvalue()).decode()}" alt="{name}">'
