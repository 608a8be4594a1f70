"""``zoo gallery``: a site about the models."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from zoo.cli import options
from zoo.cli.group import Commands
from zoo.cli.list import note_unusable
from zoo.cli.output import do_each, echo, note, outcomes, print_json, show_progress, size, stdout_to_stderr

_SECTIONS = {
    "The site:": {
        "build": "zoo_gallery.cli:build",
        "serve": "zoo_gallery.cli:serve",
    },
    "What it can show:": {
        "atlas": "zoo_gallery.cli:atlas",
    },
}


@click.group(cls=Commands, sections=_SECTIONS, epilog="Example: zoo gallery build -o site")
def gallery() -> None:
    """Build and show a static site about the models."""


@click.command(epilog="Example: zoo gallery build 'resnet*' 'timm/resnet*' -o site")
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...", shell_complete=options.complete_name)
@options.output("Folder of the site: new, or an earlier site.", kind=options.NEW_FOLDER)
@click.option("--latency", type=options.FILE, metavar="FILE", help="Show the latencies that zoo benchmark --csv wrote.")
@click.option("--failures", type=options.FILE, multiple=True, metavar="FILE",
              help="Show how networks fail: JSON of zoo attack curve or zoo look. Repeatable.")  # fmt: skip
@click.option("--atlas", "channels", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR",
              help="Show what drives channels: the folder of zoo gallery atlas.")  # fmt: skip
@click.option("--results", "tables", type=options.FILE, multiple=True, metavar="TABLE",
              help="Show the results that zoo bulk wrote. Repeatable.")  # fmt: skip
@click.option("--try", "tried", multiple=True, metavar="NAME",
              help="Let readers try NAME in the page, or the weights of a pattern. Repeatable.")  # fmt: skip
@click.option("--runtime", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR",
              help="For --try: the folder dist of the npm package onnxruntime-web.")  # fmt: skip
@click.option("--try-precision", "precision", type=click.Choice(["float32", "float16", "int8"]), default="float32",
              show_default=True, help="For --try: precision of the networks' files.")  # fmt: skip
@click.option("--try-calibrate", "calibrate", metavar="DATA",
              help="For --try-precision int8: DATA's training split.  [default: that of the weights]")  # fmt: skip
@click.option("--docs", default="", metavar="URL", help="Address of the documentation, to which every page links.")
@options.json
def build(patterns: tuple[str, ...], output: Path, as_json: bool, **keywords: Any) -> None:
    """Write a static site: a table, charts, a timeline, a page for each model.

    PATTERN is one of zoo list; by default all models but those of collections. In a folder with an earlier site, only
    pages whose inputs changed are written.
    """
    from zoo_gallery import site

    with show_progress("pages") as progress, stdout_to_stderr():
        built = site.build(output, patterns, progress=progress, **keywords)
    if as_json:
        return print_json(built)
    echo(f"{built.folder}: {built.pages:,} models, {size(built.size)}; {built.written:,} files written")
    note_unusable()
    return note(f"zoo gallery serve {built.folder} shows it.")


@click.command(epilog="Example: zoo gallery serve site")
@click.argument("folder", default="site", type=click.Path(file_okay=False, path_type=Path))
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 for a free one.")
@options.json
def serve(folder: Path, port: int, as_json: bool) -> None:
    """Show a site on 127.0.0.1, until Ctrl-C."""
    from zoo_gallery import server

    with server.listening(folder, port) as listening:
        address = server.address_of(listening)
        if as_json:
            print_json({"address": address})
        else:
            echo(address)
        with suppress(KeyboardInterrupt):
            listening.serve_forever()


@click.command(epilog="Example: zoo gallery atlas resnet20.c10 --first -o atlas")
@options.several_names(required=False)
@options.output("Folder of the atlas: new, or an earlier atlas.", kind=options.NEW_FOLDER)
@click.option("--layer", "layers", multiple=True, metavar="MODULE",
              help="Submodule. Repeatable.  [default: the default layers]")  # fmt: skip
@click.option("--first", "is_first", is_flag=True, help="Only the first of the default layers.")
@click.option("--channels", type=options.POSITIVE, metavar="N", help="The first N channels of a layer.  [default: all]")
@options.several(options.data, options.split)
@click.option("--limit", default=1000, show_default=True, type=options.POSITIVE, metavar="N",
              help="Search the patches in N images, at equal distances in the split.")  # fmt: skip
@click.option("--steps", default=64, show_default=True, type=options.POSITIVE, help="Steps of gradient ascent.")
@options.json
@click.pass_context
def atlas(
    context: click.Context, /, names: tuple[str, ...], output: Path, as_json: bool, layers: tuple[str, ...],
    is_first: bool, **keywords: Any,
) -> None:  # fmt: skip
    """Compute what drives the channels of networks, for zoo gallery build --atlas.

    Of each channel: an image that maximises it, its strongest patches, their deconvolutions, its tuning to gratings
    and the nearest Gabor filter. Without NAME, of all weights that are part of a package. A later run computes only
    what is missing.
    """
    from zoo_gallery import atlas as atlases

    if layers and is_first:
        raise click.UsageError("--first has no effect with --layer.")

    def work(name: str) -> dict[str, Any]:
        with stdout_to_stderr(), show_progress(f"channels of {name}") as progress:
            computed = atlases.compute(name, output, layers=layers, is_first=is_first, progress=progress, **keywords)
        if not as_json:
            parts = f"{computed.computed} parts computed" if computed.computed else "all there"
            echo(f"{name}: {computed.channels:,} channels of {computed.layers} layers, {size(computed.size)}, {parts}")
        return {field: getattr(computed, field) for field in computed.__struct_fields__}

    done, failed, code = do_each(names or tuple(atlases.embedded()), work)
    if as_json:
        print_json(outcomes(done, failed))
    else:
        note(f"zoo gallery build --atlas {output} -o site shows it.")
    context.exit(code)
