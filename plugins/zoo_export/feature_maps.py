"""Exports the first layers of a network, for pages that show their maps."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from zoo.creation import as_network, info_of
from zoo.modules.features import Taps
from zoo_export import graph, writers


class _Maps(graph.Graph):
    """From images to the outputs of ``layers``."""

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        super().__init__(network, info_of(network).preprocess, "uint8", "float32")
        self.layers = layers
        self.taps = Taps(network, layers)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]  # several outputs
        _, seen = self.taps.run(self.network, self.prepared(images), stop=True)
        return tuple(seen[layer] for layer in self.layers)


def export_maps(name: str, file: Path, count: int = 2) -> tuple[str, ...]:
    """Writes an ONNX file from uint8 pixels to the maps of the first ``count`` default layers of a network.

    Returns the names of the layers, which are those of the outputs; without any, no file is written. Layers without
    maps are left out. Raises :class:`ExportError`.
    """
    network = as_network(name)
    with graph.on_cpu(network) as used:
        size = info_of(network).preprocess.input_size
        defaults: tuple[str, ...] = getattr(network, "default_layers", ())
        found = _Maps(used, defaults)
        try:
            shown = zip(defaults, found(found.example(size)), strict=True)
            layers = [layer for layer, maps in shown if maps.ndim == 4 and min(maps.shape[2:]) > 1][:count]
        finally:
            found.taps.remove()
        if not layers:
            return ()
        exported = _Maps(used, layers)
        try:
            with writers.quiet():
                writers.write_onnx(exported, exported.example(size), file, layers)
        finally:
            exported.taps.remove()
    return tuple(layers)
