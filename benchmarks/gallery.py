"""How long the gallery takes for many models: ``python benchmarks/gallery.py [COUNT]``.

The models are copies of the built-in ones under other names, in a plugin of this process. Prints seconds, bytes and
files of a first build and of a second one.
"""

import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import msgspec

import zoo
from zoo import registry
from zoo_gallery import site


def copies(count: int) -> zoo.Plugin:
    """Returns a plugin of ``count`` models with the built-in ones' networks."""
    rows = [entry.model for entry in registry.current().models() if entry.row.is_builtin]
    models = [
        msgspec.structs.replace(model, name=f"copy{number}_{model.name}")
        for number, model in enumerate(islice(cycle(rows), count))
    ]
    return zoo.Plugin("copies", api=1, models=tuple(models))


def main(count: int = 2000) -> None:
    with zoo.register(copies(count)), tempfile.TemporaryDirectory() as folder:
        for title in ("first build", "second build"):
            begun, used = time.perf_counter(), time.process_time()
            built = site.build(Path(folder, "site"), ["copy*"])
            seconds, processor = time.perf_counter() - begun, time.process_time() - used
            print(
                f"{title}: {built.pages:,} models, {seconds:.0f} s ({processor:.0f} s of the processor), "
                f"{built.written:,} files written, {built.size / 1e6:.1f} MB"
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
