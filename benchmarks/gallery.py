"""How long the gallery takes for many models: ``python benchmarks/gallery.py [COUNT]``.

The models are copies of the built-in ones under other names, in a plugin of this process. Prints seconds, bytes and
files of a first build, of a second one, and of one after a model has changed. ``python -m cProfile -s cumulative
benchmarks/gallery.py 300`` says in which functions the time is spent.
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


def copies(count: int, note: str = "") -> zoo.Plugin:
    """Returns a plugin of ``count`` models with the built-in ones' networks; the first has another ``note``."""
    rows = [entry.model for entry in registry.current().models() if entry.row.is_builtin]
    models = [
        msgspec.structs.replace(model, name=f"copy{number}_{model.name}", aliases=())
        for number, model in enumerate(islice(cycle(rows), count))
    ]
    models[0] = msgspec.structs.replace(models[0], note=note or models[0].note)
    return zoo.Plugin("copies", api=1, models=tuple(models))


def main(count: int = 2000) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for title, note in {"first build": "", "second build": "", "one model changed": "Other words."}.items():
            with zoo.register(copies(count, note)):
                registry.current()  # what is installed is read once, whoever asks
                begun, used = time.perf_counter(), time.process_time()
                built = site.build(Path(folder, "site"), ["copy*"])
                seconds, processor = time.perf_counter() - begun, time.process_time() - used
            print(
                f"{title}: {built.pages:,} models, {seconds:.1f} s ({processor:.1f} s of the processor), "
                f"{built.written:,} files written, {built.size / 1e6:.1f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
