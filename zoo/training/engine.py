"""Supervised training by gradient descent: the default training hook, and its loop over epochs, batches and updates."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from types import FrameType, TracebackType
from typing import Any, NamedTuple, cast

import msgspec
import torch
from torch import Tensor, nn

from zoo.errors import RecipeError, TrainingError
from zoo.evaluation import Report, evaluate
from zoo.loading import Network, safetensors_file
from zoo.loading.create import save
from zoo.modules.execution import compiled, compiler_errors
from zoo.spec import Preprocess
from zoo.system import distributed
from zoo.system.machine import keep_freed_memory
from zoo.training import checkpoint, record
from zoo.training.checkpoint import Meter
from zoo.training.choice import decide
from zoo.training.inputs import Portion, TrainingData, batches
from zoo.training.optimization import (
    EMA,
    LookaheadWeights,
    Schedule,
    by_layer,
    create_optimizer,
    freeze,
    running_statistics,
    sync_batch_norm,
)
from zoo.training.perturbation import descend, draw, under_attack
from zoo.training.pretrained import blend, check_teacher
from zoo.training.randomness import derive_seed, generator_at
from zoo.training.recipe import Recipe
from zoo.training.run import Run

log = logging.getLogger("zoo")

Criterion = Callable[[Any, Tensor], Tensor]

ParameterGroups = Callable[[nn.Module, Recipe], list[dict[str, Any]]]


class CrossEntropy(nn.CrossEntropyLoss):
    """Cross-entropy for networks with one output; labels are int64 B or shares of the classes, float B K."""

    def __init__(self, label_smoothing: float) -> None:
        super().__init__(label_smoothing=label_smoothing)

    def forward(self, output: Any, labels: Tensor) -> Tensor:
        if not isinstance(output, Tensor):
            raise TrainingError(
                f"In training the network has {len(output)} outputs, but cross-entropy expects one.",
                hint="Build it without auxiliary classifiers, or pass a criterion to zoo.training.train.",
            )
        return super().forward(output, labels)


class Interruption:
    """A context in which the first SIGINT or SIGTERM only sets ``is_requested``; a second one interrupts at once.

    With ``is_patient`` the second has no effect either, because launchers may forward a signal several times and kill
    processes that take too long. Outside the main thread, where Python allows no handlers, the context does nothing.
    """

    def __init__(self, *, is_patient: bool = False) -> None:
        self.is_requested = False
        self._is_patient = is_patient
        self._former: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.is_requested and not self._is_patient:
            raise KeyboardInterrupt
        self.is_requested = True


class MicroBatch(NamedTuple):
    """Part of a batch. Its mean loss counts ``weight`` times; ``is_last`` is the last one of this update.

    The training accuracy in the log is that of micro-batches with ``is_counted``.
    """

    images: Tensor
    labels: Tensor
    weight: float
    is_counted: bool
    is_last: bool


class MicroBatches:
    """Splits this process's share of each batch, and attacks the images if the recipe says so.

    The random numbers of an attack depend on (seed, update) and the place in the batch only, not on the number of
    processes.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, preprocess: Preprocess, portion: Portion) -> None:
        self._model = model
        self._preprocess = preprocess
        self._adversary = recipe.adversarial
        self._seed = recipe.seed
        self._portion = portion
        self._pieces = recipe.accumulate
        self._is_bfloat16 = recipe.precision == "bfloat16"
        self._layout = torch.channels_last if recipe.channels_last else torch.contiguous_format

    def of(self, images: Tensor, labels: Tensor, update: int) -> Iterator[MicroBatch]:
        """Yields the micro-batches of update ``update`` (from 0): ``images`` float B C H W, normalised.

        Each is made after the gradient of the one before it, so that attacks need no more memory either.
        """
        noise = self._noise(images, update)
        pieces = [parts.tensor_split(self._pieces) for parts in (images, labels)]
        draws = [None] * self._pieces if noise is None else noise.tensor_split(self._pieces)
        clean = self._adversary.clean_share if self._adversary is not None else 1.0
        for number, (piece, answers, drawn) in enumerate(zip(*pieces, draws, strict=True), start=1):
            share, is_last = len(answers) / self._portion.size, number == self._pieces
            if clean:
                yield MicroBatch(piece, answers, clean * share, clean == 1, is_last and clean == 1)
            if clean < 1:
                yield MicroBatch(self._attack(piece, answers, drawn), answers, (1 - clean) * share, True, is_last)

    def _noise(self, images: Tensor, update: int) -> Tensor | None:
        """Draws the random numbers of this update's attack, for this process's share of the batch."""
        if self._adversary is None:
            return None
        share = self._portion.share
        shape = torch.Size((self._portion.size, *images.shape[1:]))
        noise = draw(self._adversary, shape, generator_at(self._seed, "attack", update))
        return None if noise is None else noise[share.start : share.stop]

    def _attack(self, images: Tensor, labels: Tensor, noise: Tensor | None) -> Tensor:
        """Returns attacked ``images``, normalised as they were."""
        assert self._adversary is not None  # else nothing is attacked
        autocast = torch.autocast(images.device.type, torch.bfloat16, enabled=self._is_bfloat16)
        with under_attack(self._model, self._preprocess) as pixel_model, autocast:
            pixels = (images * pixel_model.std + pixel_model.mean).clamp(0, 1)
            attacked = descend(pixel_model, pixels, labels, self._adversary.epsilon, self._adversary, noise)
            return ((attacked - pixel_model.mean) / pixel_model.std).contiguous(memory_format=self._layout)


class Engine:
    """The parts of one training and where it stands: ``epoch`` epochs and ``step`` steps are done."""

    def __init__(
        self,
        model: nn.Module,
        data: TrainingData,
        recipe: Recipe,
        run: Run,
        preprocess: Preprocess,
        device: torch.device,
        criterion: Criterion | None,
        parameter_groups: ParameterGroups | None,
        on_epoch: Callable[[int], None] | None,
    ) -> None:
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.processes = distributed.current()
        self.model = model.to(device=device, memory_format=layout)  # type: ignore[call-overload]  # torch's stubs
        self.data = data
        self.recipe = recipe
        self.run = run
        self.preprocess = preprocess
        self.device = device
        self.layout = layout
        check_teacher(recipe, run.teacher)
        if run.teacher is not None:
            run.teacher.to(device, layout)
        self.criterion = criterion or CrossEntropy(recipe.label_smoothing)
        self.on_epoch = on_epoch
        self.check_sides()
        self.batches = batches(data.train, recipe, preprocess, device, self.processes)
        self.micro_batches = MicroBatches(model, recipe, preprocess, self.batches.portion)
        self.frozen = freeze(model, recipe.freeze)
        self.optimizer = create_optimizer(model, recipe, (parameter_groups or by_layer)(model, recipe))
        self.schedule = Schedule(self.optimizer, recipe, self.batches.steps)
        self.ema = EMA(model, recipe.ema) if recipe.ema else None
        updates = recipe.epochs * self.batches.steps
        self.lookahead = LookaheadWeights(model, recipe.lookahead, updates) if recipe.lookahead else None
        averages = {"ema": self.ema, "slow": self.lookahead}
        self.modules = {"model": model, **{name: kept.module for name, kept in averages.items() if kept}}
        self.network = self.processes.wrap(self.model)
        self.forward = compiled(self.network) if recipe.compile else self.network
        self.statistics = running_statistics(model)
        self.meter = Meter(self.processes)
        self.epoch = self.step = 0
        self.best: dict[str, float] = {}
        """Epoch and scores of the network that is the best so far, if that is the one to keep."""
        self.settle_every = 1 if device.type == "cpu" else 20

    def check_sides(self) -> None:
        """Raises :class:`RecipeError` if progressive resizing has images that the network does not take."""
        progressive, (channels, *size) = self.recipe.progressive, self.preprocess.input_size
        if progressive is None:
            return
        smallest = [progressive.side(side, 0, self.recipe.epochs) for side in size]
        image = torch.zeros(1, channels, *smallest, device=self.device)
        was_training = self.model.training
        try:
            with torch.no_grad():  # in eval mode, so that the statistics of normalisation stay
                self.model.eval()(image)
        except Exception as error:
            raise RecipeError(
                f"progressive: the network does not take images of {smallest[0]}x{smallest[1]} pixels ({error}).",
                hint="Raise progressive.initial_scale, or leave progressive out.",
            ) from error
        finally:
            self.model.train(was_training)

    def resume(self) -> None:
        """Restores everything from the run's checkpoint; starts at the beginning if there is none."""
        if self.run.resume and self.run.checkpoint.exists():
            position = checkpoint.restore(self.run.checkpoint, self.modules, self.optimizer, self.batches.steps)
            self.epoch, self.step, self.best = position.epoch, position.step, dict(position.best)
            self.meter = Meter(self.processes, **msgspec.structs.asdict(position.meter))
            if self.run.former_epochs is not None and self.processes.is_first:
                log.warning(
                    "Extending the run after epoch %d: %d epochs instead of %d, with the learning rate of the longer "
                    "schedule, %.3g next",
                    self.epoch,
                    self.recipe.epochs,
                    self.run.former_epochs,
                    self.schedule.set(self.epoch * self.batches.steps + self.step),
                )
        if not self.processes.agree(self.epoch, self.step):
            raise TrainingError(
                f"The processes read different checkpoints in {self.run.directory}: number {self.processes.rank} "
                f"that of {self.epoch} epochs and {self.step} steps.",
                hint="Put the run directory on a file system that all machines share.",
            )
        self.run.rewind(self.epoch)
        if self.epoch == self.step == 0:
            self.keep_epoch(self.model)

    def train(self, interruption: Interruption) -> None:
        """Trains the epochs that are left, or to where the run is to pause."""
        last = self.recipe.epochs if self.run.stop_after is None else min(self.run.stop_after, self.recipe.epochs)
        must_stop = False
        while self.epoch < last:
            self.run.display.start(self.epoch + 1, self.recipe.epochs, self.batches.steps)
            self.model.train()
            for module in self.frozen:
                module.eval()
            if self.on_epoch is not None:
                self.on_epoch(self.epoch)
            moment = time.perf_counter()
            for images, labels in self.batches.epoch(self.epoch, self.step):
                self.update(images, labels)
                self.meter.seconds += time.perf_counter() - moment
                moment = time.perf_counter()
                must_stop = self.is_due() and self.processes.any(interruption.is_requested)
                if must_stop:
                    break
            if self.step == self.batches.steps:
                self.finish_epoch()
            if must_stop:
                self.save()
                raise KeyboardInterrupt
        self.run.is_paused = self.epoch < self.recipe.epochs
        if self.run.is_paused:
            return
        if self.best:
            self.model.load_state_dict(safetensors_file.read(self.run.best))
            saved = f"The network of epoch {self.best['epoch']:g} is saved: validation {self.best['top1']:.2f}%"
            self.run.display.announce(saved)
        elif self.ema is not None:
            self.model.load_state_dict(self.ema.module.state_dict())

    def update(self, images: Tensor, labels: Tensor) -> None:
        """Updates the weights once, computed in the recipe's number of pieces, attacked if it says so."""
        number = self.epoch * self.batches.steps + self.step
        rank = [self.processes.rank] if self.processes.rank else []  # their dropout is not the first one's
        torch.manual_seed(derive_seed(self.recipe.seed, "network", number, *rank))
        lr = self.schedule.set(number)
        images = images.contiguous(memory_format=self.layout)
        loss = torch.zeros((), device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        for micro_batch in self.micro_batches.of(images, labels, number):
            with nullcontext() if micro_batch.is_last else self.processes.no_sync(self.network):
                piece_loss, piece_correct = self.forward_backward(micro_batch)
            loss += piece_loss
            if micro_batch.is_counted:
                correct += piece_correct
        if self.recipe.clip_grad:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.processes.average(self.statistics)
        for kept in (self.lookahead, self.ema):
            if kept is not None:
                kept.update(number)
        self.meter.add(self.step, lr, self.batches.size, loss, correct)
        self.step += 1
        if self.is_due():
            latest = self.meter.settle(self.epoch)
            self.run.display.step(self.epoch + 1, self.step, latest, lr)
        if self.run.checkpoint_every and self.step % self.run.checkpoint_every == 0:
            self.save()

    def is_due(self) -> bool:
        """Returns whether it is time to read numbers from the device and to hear the other processes."""
        return self.step % self.settle_every == 0 or self.step == self.batches.steps

    def forward_backward(self, micro_batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """Adds the gradient of a micro-batch's weighted loss; returns that loss and the count of right answers.

        Several processes take the mean of their gradients, where the batch's is the sum of its shares'.
        """
        images, labels = micro_batch.images, micro_batch.labels
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            with compiler_errors() if self.recipe.compile else nullcontext():
                output = self.forward(images)
            taught = None if self.run.teacher is None else self.run.teacher.logits(images, self.preprocess)
        if isinstance(output, Tensor):
            logits = output = output.float()
        else:  # a network with auxiliary heads: the main one comes first
            output = tuple(head.float() for head in output)
            logits = output[0]
        loss = self.criterion(output, labels)
        if taught is not None and self.recipe.distill is not None:
            loss = blend(self.recipe.distill, loss, logits, taught)
        loss = loss * micro_batch.weight
        (loss * self.processes.count).backward()
        answers = labels.argmax(dim=1) if labels.is_floating_point() else labels  # of a mixed image, its larger part's
        return loss.detach(), (logits.detach().argmax(dim=1) == answers).sum()

    def finish_epoch(self) -> None:
        """Scores the images held out, then logs the epoch and writes the checkpoint."""
        meter = self.meter
        row: dict[str, Any] = {
            "epoch": self.epoch + 1,
            "step": (self.epoch + 1) * self.batches.steps,
            "loss": meter.loss / meter.seen,
            "train_top1": 100 * meter.correct / meter.seen,
            "lr": float(self.optimizer.param_groups[0]["lr"]),
            "images_per_s": meter.seen / meter.seconds,
            "seconds": meter.seconds,
        }
        if self.data.validation is not None:
            network = self.ema.module if self.ema is not None else self.model
            report = evaluate(
                network,
                self.data.validation,
                preprocess=self.preprocess,
                device=self.device,
                dtype="bfloat16" if self.recipe.precision == "bfloat16" else None,
            )
            row |= {"val_top1": report.top1, "val_loss": report.loss}
            if self.recipe.keep == "best":
                self.keep_best(network, report)
        self.run.write(row)
        self.epoch, self.step, self.meter = self.epoch + 1, 0, Meter(self.processes)
        self.keep_epoch(self.ema.module if self.ema is not None else self.model)
        self.save()

    def keep_best(self, network: nn.Module, report: Report) -> None:
        """Writes ``network`` down if none of an earlier epoch was as often right; of equals, the lower loss."""
        assert report.loss is not None  # of logits
        rank = (report.top1, -report.loss)
        if self.best and rank <= (self.best["top1"], -self.best["loss"]):
            return
        self.best = {"epoch": self.epoch + 1, "top1": report.top1, "loss": report.loss}
        if self.processes.is_first:
            safetensors_file.write(network.state_dict(), self.run.best, {"epoch": self.epoch + 1})

    def keep_epoch(self, network: nn.Module) -> None:
        """Writes ``network`` down as that after the epochs that are done, if the run is asked for it."""
        if self.epoch not in self.run.keep_epochs or not self.processes.is_first:
            return
        if not hasattr(network, "zoo_info"):
            raise TrainingError("Epochs are kept of networks of zoo.create alone: this one does not say what it is.")
        file = self.run.directory / "epochs" / f"{self.epoch}.safetensors"
        kept = cast(Network, network)
        save(kept, file, origin=f"epoch {self.epoch} of a training on {kept.zoo_info.classes}")

    def close(self) -> None:
        """Lets go of the other processes: the network is this one's own again."""
        self.network = self.forward = self.model
        self.processes.release()

    def save(self) -> None:
        """Writes the checkpoint of this moment, unless the loss has stopped being a number."""
        self.meter.settle(self.epoch)
        if self.processes.is_first:
            position = {"epoch": self.epoch, "step": self.step, "meter": self.meter.state()}
            position |= {"best": self.best} if self.best else {}
            checkpoint.save(self.run.checkpoint, position, self.modules, self.optimizer)
        self.processes.wait()


def train(
    model: nn.Module,
    data: TrainingData,
    recipe: Recipe,
    run: Run,
    *,
    preprocess: Preprocess,
    device: torch.device | str | None = None,
    criterion: Criterion | None = None,
    parameter_groups: ParameterGroups | None = None,
    on_epoch: Callable[[int], None] | None = None,
) -> nn.Module:
    """Trains a network in place: the default train hook.

    In processes that a launcher started, all must call it; the first one writes and shows progress. A resumed run
    continues bit by bit as if it had not stopped, on the same machine and with as many threads and processes. On Ctrl-C
    or SIGTERM a checkpoint is written before KeyboardInterrupt is raised.

    Args:
        model: The network.
        data: The images.
        recipe: The recipe.
        run: The run's directory. Its ``is_paused`` says afterwards whether epochs are left.
        preprocess: How images are prepared.
        device: Where to train. By default a GPU if there is one.
        criterion: Returns the mean loss of (output, labels). By default cross-entropy with label smoothing.
        parameter_groups: Returns the optimiser's groups for (model, recipe). A group may have an ``lr_scale`` and a
            ``weight_decay``.
        on_epoch: Called with an epoch's number, from 0, before it, and again if it is resumed.

    Returns:
        The network, with the average of its weights if the recipe asks for one.

    Raises:
        TrainingError: The directory holds another run, or the loss is not a finite number; the last checkpoint stays.
        RecipeError: The optimiser is unknown, or settings cannot be combined.

    Example:
        >>> import zoo
        >>> model, recipe = zoo.create("resnet20.digits"), zoo.training.Recipe(epochs=1)
        >>> data = zoo.training.split(zoo.data.load("digits", "test"), recipe)
        >>> run = zoo.training.Run("runs/digits")
        >>> model = zoo.training.train(model, data, recipe, run, preprocess=model.zoo_info.preprocess)
        >>> run.is_paused
        False
    """
    group = distributed.current()
    device = group.device(device)
    keep_freed_memory()
    info = getattr(model, "zoo_info", None)
    recipe, reason = decide(recipe, info.model if info is not None else None, len(data.train), device.type)
    engine = Engine(model, data, recipe, run, preprocess, device, criterion, parameter_groups, on_epoch)
    described = record.describe(model, data, recipe, preprocess, run, device)
    run.open(described)
    run.display.announce(record.in_words(described, data, recipe, engine.batches.steps))
    if reason:
        run.display.announce(reason)
    cuda = [device] if device.type == "cuda" else []
    was_training = model.training
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=cuda))
            interruption = stack.enter_context(Interruption(is_patient=group.count > 1))
            if recipe.sync_norm and group.count > 1:
                stack.enter_context(sync_batch_norm(model, group))
            engine.resume()
            engine.train(interruption)
    finally:
        engine.close()
        run.close()
        model.train(was_training)
    return model
