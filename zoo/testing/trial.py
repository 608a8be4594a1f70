"""``python -m zoo.testing.trial PLUGIN FILE``: lists, loads, verifies, predicts; writes each outcome to FILE."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
from PIL import Image

from zoo import registry
from zoo.creation import create
from zoo.errors import MissingExtraError, ZooError
from zoo.evaluation.prediction import predict
from zoo.preparation import preprocess
from zoo.registry import PluginRow
from zoo.spec import Model
from zoo.testing.outcome import Outcome
from zoo.verify import worker


def outcomes(plugin: str) -> Iterator[Outcome]:
    """An outcome of each step for the plugin, its models and those weights that it ships with."""
    row = next((row for row in registry.current().plugins if row.name == plugin), None)
    if row is None or row.plugin is None:
        reason = f"{row.status}: {row.reason}" if row else "not found among the installed plugins"
        yield Outcome("listed", plugin, "entry point", "failed", f"{plugin}: entry point: {reason}")
        return

    def list_weights() -> None:
        _ = row.weights

    yield (listed := _outcome("listed", plugin, "weights", list_weights))
    for model in row.models.values():
        yield _outcome("loaded", model.name, "build", partial(create, f"{plugin}/{model.name}"))
        if listed.status == "passed":
            yield from _of_weights(row, model)
    for arch in row.brought_tags:
        yield from _tried([entry.name for entry in row.brought(arch) if entry.hub.startswith("embedded:")])


def _of_weights(row: PluginRow, model: Model) -> Iterator[Outcome]:
    """Weights without a network: those that the wheel has. Of a model without any, its random outputs."""
    entries = row.weights.get(model.name, ())
    names = [f"{row.name}/{entry.name}" for entry in entries if entry.hub.startswith("embedded:")]
    yield from _tried(names)
    if not names:
        yield _outcome("predicted", model.name, "forward", partial(_predict, f"{row.name}/{model.name}"))


def _tried(names: list[str]) -> Iterator[Outcome]:
    for name in names:
        of = name.partition("/")[2]
        yield _outcome("verified", of, "file", partial(worker.verify, name))
        yield _outcome("predicted", of, "forward", partial(_predict, name))


def _predict(name: str) -> None:
    """Classifies a grey picture of the network's size."""
    network = create(name).eval()
    height, width = preprocess(network).preprocess.input_size[1:]
    predict(network, Image.new("L", (width, height), color=127))


def _outcome(step: str, of: str, field: str, work: Callable[[], object]) -> Outcome:
    try:
        work()
    except MissingExtraError as error:
        return Outcome(step, of, field, "skipped", f"{of}: {error.message}", error.hint)
    except ZooError as error:
        return Outcome(step, of, field, "failed", f"{of}: {field}: {error.message}", error.hint)
    except Exception as error:  # a plugin's code may raise anything
        return Outcome(step, of, field, "failed", f"{of}: {field}: {type(error).__name__}: {error}")
    return Outcome(step, of, field, "passed")


def _main(plugin: str, answer: str) -> None:
    with Path(answer).open("ab") as file:
        for outcome in outcomes(plugin):
            file.write(msgspec.json.encode(outcome) + b"\n")
            file.flush()


if __name__ == "__main__":
    _main(*sys.argv[1:])
