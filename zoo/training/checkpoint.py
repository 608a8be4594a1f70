"""The training state in one safetensors file, replaced atomically.

Tensors are ``<module>.*`` of the network (``model``) and its averages, ``optimizer.<parameter>.<name>`` and
``group.<index>.<name>``; all that is not a tensor is the file's description of itself. Nothing is pickled.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from torch import Tensor, nn

from zoo import loading
from zoo.errors import TrainingError, WeightsError
from zoo.loading import safetensors_file
from zoo.system.distributed import Processes

FORMAT = 1
Natural = Annotated[int, msgspec.Meta(ge=0)]
Finite = Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)]

DIVERGED = (
    "The last checkpoint, if any, is from before that. Start again with a lower lr, a longer warm-up "
    "(warmup_epochs) or clip_grad=1."
)
"""Advice if numbers stopped being numbers."""


class Sums(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The state of a :class:`Meter`."""

    loss: Finite
    correct: Natural
    seen: Natural
    seconds: Finite


class Meter:
    """Sums over the images seen so far in an epoch.

    Values stay on the device until :meth:`settle`, so that an accelerator does not have to wait; then they are summed
    over all ``processes``.
    """

    def __init__(
        self,
        processes: Processes,
        loss: float = 0.0,
        correct: int = 0,
        seen: int = 0,
        seconds: float = 0.0,
    ) -> None:
        self._processes = processes
        self.loss = loss
        self.correct = correct
        self.seen = seen
        self.seconds = seconds
        self._pending: list[tuple[int, float, int, Tensor, Tensor]] = []

    def add(self, step: int, lr: float, images: int, loss: Tensor, correct: Tensor) -> None:
        """Adds one step of ``images``: this process's part of the mean ``loss`` and the ``correct`` count."""
        self._pending.append((step, lr, images, loss, correct))

    def settle(self, epoch: int) -> float:
        """Adds pending values; returns the last loss; raises :class:`TrainingError` at NaN or infinity."""
        if not self._pending:
            return self.loss / max(self.seen, 1)
        parts = torch.stack([torch.stack([loss.double(), correct.double()]) for *_, loss, correct in self._pending])
        losses, counts = self._processes.sum(parts).T.tolist()
        for (step, lr, images, *_), loss, correct in zip(self._pending, losses, counts, strict=True):
            if loss != loss or abs(loss) == float("inf"):
                raise TrainingError(
                    f"The loss became {loss} at epoch {epoch + 1}, step {step + 1}, learning rate {lr:g}.",
                    hint=DIVERGED,
                )
            self.loss += loss * images
            self.correct += int(correct)
            self.seen += images
        self._pending.clear()
        return float(losses[-1])

    def state(self) -> dict[str, float]:
        """Returns the constructor's arguments to continue from here."""
        return {"loss": self.loss, "correct": self.correct, "seen": self.seen, "seconds": self.seconds}


class Position(msgspec.Struct, frozen=True):
    """``epoch`` epochs and ``step`` steps of the next are done; ``best`` describes the best network so far, if any."""

    epoch: Natural
    step: Natural
    meter: Sums
    best: dict[str, Finite] = {}

    def __post_init__(self) -> None:
        if self.best and self.best.keys() != {"epoch", "top1", "loss"}:
            raise ValueError(f"best has {', '.join(self.best)}, expected epoch, top1 and loss")


def save(
    file: Path, position: dict[str, Any], modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> None:
    """Writes the checkpoint atomically.

    Raises :class:`StorageError`, and :class:`TrainingError` if a weight is NaN or infinite, because training cannot
    continue from it. ``file`` is unchanged then.
    """
    _check_finite(modules, position, optimizer.param_groups[0]["lr"])
    tensors = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    state = optimizer.state_dict()
    scalars: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                scalars.setdefault(str(index), {})[name] = value
    groups: list[dict[str, Any]] = [{} for _ in state["param_groups"]]
    for index, group in enumerate(state["param_groups"]):
        for name, value in group.items():
            if isinstance(value, Tensor):  # some optimisers count their steps there
                tensors[f"group.{index}.{name}"] = value
            elif name != "params":
                groups[index][name] = value
    safetensors_file.write(
        tensors, file, {"format": FORMAT, "position": position, "scalars": scalars, "groups": groups}
    )


def restore(file: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, steps: int) -> "Position":
    """Restores the state of the checkpoint; returns its position, in epochs of ``steps`` steps.

    Raises :class:`TrainingError` if the file is damaged or is another network's.
    """
    try:
        tensors, document = safetensors_file.read(file), safetensors_file.metadata(file)
        if document["format"] != FORMAT:
            raise TrainingError(f"{file} has checkpoint format {document['format']}, expected {FORMAT}.")
        position = msgspec.convert(document["position"], Position)
        if position.step >= steps:
            raise ValueError(f"it is at step {position.step} of an epoch with {steps} steps")
        _restore_optimizer(optimizer, tensors, document)
        for name, module in modules.items():
            prefix = f"{name}."
            module.load_state_dict(
                {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            )
        return position
    except (WeightsError, LookupError, ValueError, TypeError, RuntimeError) as error:
        raise TrainingError(
            f"{file} is not a valid checkpoint: {error}", hint="Start a new run in another directory (-o DIR)."
        ) from None


def _check_finite(modules: Mapping[str, nn.Module], position: Mapping[str, Any], lr: float) -> None:
    for module in modules.values():
        if bad := loading.not_finite(dict(module.named_parameters())):
            raise TrainingError(
                f"Weights became infinite or NaN ({bad[0]}) after {position['epoch']} epochs and "
                f"{position['step']} steps, learning rate {lr:g}.",
                hint=DIVERGED,
            )


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], document: dict[str, Any]) -> None:
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in document["scalars"].items()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for key, value in tensors.items():
        if not key.startswith("optimizer."):
            continue
        _, index, name = key.split(".", 2)
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:  # fused optimisers need the parameter's layout in memory
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        state.setdefault(int(index), {})[name] = value
    fresh = optimizer.state_dict()["param_groups"]
    if len(fresh) != len(document["groups"]):
        raise ValueError(f"{len(document['groups'])} groups of parameters, expected {len(fresh)}")
    groups: list[dict[str, Any]] = []
    for group, stored in zip(fresh, document["groups"], strict=True):
        tuples = {key: tuple(value) for key, value in stored.items() if isinstance(group.get(key), tuple)}
        prefix = f"group.{len(groups)}."
        group_tensors = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        groups.append({**group, **stored, **tuples, **group_tensors})
    optimizer.load_state_dict({"state": state, "param_groups": groups})
