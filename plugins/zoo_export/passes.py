"""Export passes, which plugins bring: changes of a network before it is written."""

import copy
from collections.abc import Sequence

from torch import nn

from zoo import registry
from zoo.errors import ExportError, PluginError, ZooError
from zoo.evaluation.forward import in_eval_mode
from zoo.registry import extensions, roles

FIELD = "exports"


def check(names: Sequence[str]) -> None:
    """Raises :class:`UnknownNameError` unless all are export passes."""
    for name in names:
        extensions.require(FIELD, name)


def run(network: nn.Module, names: Sequence[str]) -> nn.Module:
    """A copy of ``network`` after the passes ``names``, in this order; itself if there are none.

    Raises :class:`ExportError` for a pass that fails, :class:`PluginError` for one that returns no network.
    """
    if not names:
        return network
    changed = copy.deepcopy(network)
    for name in names:
        row = extensions.require(FIELD, name).spec
        hook = registry.hook(row.run, row.requires, role=roles.EXPORT, of=name)
        try:
            with in_eval_mode(changed):
                found = hook(changed)
        except ZooError:
            raise
        except Exception as error:  # a plugin's code may raise anything
            raise ExportError(f"The export pass {name} failed: {type(error).__name__}: {error}") from error
        if not isinstance(found, nn.Module):
            raise PluginError(f"{row.run} returned {type(found).__name__}, expected the changed network.")
        changed = found
    return changed.eval()
