"""Supervised training by gradient descent: the loop over epochs, batches and updates."""

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from zoo.errors import RecipeError, TrainingError
from zoo.evaluation import Report, evaluate
from zoo.loading import safetensors_file
from zoo.modules.execution import compiled, compiler_errors
from zoo.spec import Preprocess
from zoo.system import distributed
from zoo.training import checkpoint, groups, norms, schedule, teacher
from zoo.training.averages import EMA, LookaheadWeights
from zoo.training.inputs import TrainingData, batches
from zoo.training.interruption import Interruption
from zoo.training.loss import CrossEntropy
from zoo.training.meter import Meter
from zoo.training.micro_batches import MicroBatches
from zoo.training.portion import Portion
from zoo.training.randomness import derive_seed
from zoo.training.recipe import Recipe
from zoo.training.run import Run

log = logging.getLogger("zoo")

Criterion = Callable[[Any, Tensor], Tensor]
ParameterGroups = Callable[[nn.Module, Recipe], list[dict[str, Any]]]


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
        teacher.check(recipe, run.teacher)
        if run.teacher is not None:
            run.teacher.to(device, layout)
        self.criterion = criterion or CrossEntropy(recipe.label_smoothing)
        self.on_epoch = on_epoch
        self.check_sides()
        self.batches = batches(data.train, recipe, preprocess, device, self.processes)
        portion = Portion(self.batches.size, self.batches.steps, self.batches.share)
        self.micro_batches = MicroBatches(model, recipe, preprocess, portion)
        self.frozen = groups.freeze(model, recipe.freeze)
        self.optimizer = schedule.optimizer(model, recipe, (parameter_groups or groups.by_layer)(model, recipe))
        self.schedule = schedule.create_schedule(self.optimizer, recipe, self.batches.steps)
        self.ema = EMA(model, recipe.ema) if recipe.ema else None
        updates = recipe.epochs * self.batches.steps
        self.lookahead = LookaheadWeights(model, recipe.lookahead, updates) if recipe.lookahead else None
        averages = {"ema": self.ema, "slow": self.lookahead}
        self.modules = {"model": model, **{name: kept.module for name, kept in averages.items() if kept}}
        self.network = self.processes.wrap(self.model)
        self.forward = compiled(self.network) if recipe.compile else self.network
        self.statistics = norms.running_statistics(model)
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
            said = f"The network of epoch {self.best['epoch']:g} is saved: validation {self.best['top1']:.2f}%"
            self.run.display.announce(said)
        elif self.ema is not None:
            self.model.load_state_dict(self.ema.module.state_dict())

    def update(self, images: Tensor, labels: Tensor) -> None:
        """One update of the weights, computed in the recipe's number of pieces, attacked if it says so."""
        number = self.epoch * self.batches.steps + self.step
        others = [self.processes.rank] if self.processes.rank else []  # their dropout is not the first one's
        torch.manual_seed(derive_seed(self.recipe.seed, "network", number, *others))
        lr = self.schedule.set(number)
        images = images.contiguous(memory_format=self.layout)
        loss = torch.zeros((), device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        for micro_batch in self.micro_batches.of(images, labels, number):
            with nullcontext() if micro_batch.is_last else self.processes.no_sync(self.network):
                part, right = self.forward_backward(micro_batch.images, micro_batch.labels, micro_batch.weight)
            loss += part
            if micro_batch.is_counted:
                correct += right
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
        """Whether now is the time to look at numbers of the device and to hear the other processes."""
        return self.step % self.settle_every == 0 or self.step == self.batches.steps

    def forward_backward(self, images: Tensor, labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """Adds the gradient of ``share`` times the mean loss; returns that loss and the count of right answers.

        Several processes take the mean of their gradients, where the batch's is the sum of its shares'.
        """
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            with compiler_errors() if self.recipe.compile else nullcontext():
                output = self.forward(images)
            taught = None if self.run.teacher is None else self.run.teacher.logits(images, self.preprocess)
        if isinstance(output, Tensor):
            logits = output = output.float()
        else:  # a network with auxiliary heads: the main one comes first
            output = tuple(part.float() for part in output)
            logits = output[0]
        loss = self.criterion(output, labels)
        if taught is not None and self.recipe.distill is not None:
            loss = teacher.blend(self.recipe.distill, loss, logits, taught)
        loss = loss * share
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
