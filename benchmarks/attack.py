"""Images per second under PGD-20 for Zoo, foolbox and torchattacks, with the same network and batch.

resnet20.c10 on noise within 8/255 in L-inf from a random start, steps of 2/255. Each runs in its own process,
alternating with the others; values are medians over the rounds. The network is in float32. Libraries that are not
installed are skipped (``pip install --no-deps torchattacks``, because it requires an old ``requests``).
Run with ``make bench`` or ``python benchmarks/attack.py [ROUNDS]``.
"""

import statistics
import sys
from collections.abc import Callable
from importlib.util import find_spec

import torch
from measure import table
from torch import Tensor
from turns import Pace, take_turns

import zoo

NAME = "resnet20.c10"
BATCH = 32
EPSILON, STEP, STEPS = 8 / 255, 2 / 255, 20
PEERS = ("foolbox", "torchattacks")
SECONDS = 2.0


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    names = ["zoo", *(peer for peer in PEERS if find_spec(peer))]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    commands = {name: [sys.executable, __file__, "loop", name] for name in names}
    turns = take_turns(commands, rounds, 1, SECONDS)
    rates = {name: [BATCH * turn.steps / turn.seconds for turn in found] for name, found in turns.items()}
    print(table((f"PGD-20, batch {BATCH}", "images/s", "range", "Zoo is faster"), rows(rates)))


def rows(rates: dict[str, list[float]]) -> list[tuple[str, ...]]:
    """Returns a row for each library, with the ratio of Zoo's rate to it in each round, so that other load affects
    both.
    """
    lines = []
    for name, found in rates.items():
        ratios = [zoo / peer for zoo, peer in zip(rates["zoo"], found, strict=True)]
        faster = f"{statistics.median(ratios):.2f} times" if name != "zoo" else ""
        lines.append((name, f"{statistics.median(found):.1f}", f"{min(found):.1f} to {max(found):.1f}", faster))
    return lines


def loop(name: str) -> None:
    """Attacks the same batch over and over."""
    pace = Pace()
    torch.manual_seed(0)
    images, labels = torch.rand(BATCH, 3, 32, 32), torch.randint(10, (BATCH,))
    attack = ATTACKS[name]()
    while True:
        changed = attack(images, labels)
        assert (changed - images).abs().max() <= EPSILON + 1e-6
        pace.step()


def of_zoo() -> Callable[[Tensor, Tensor], Tensor]:
    model = zoo.create(NAME)
    return lambda images, labels: zoo.attack.pgd(model, images, labels, EPSILON, steps=STEPS, step_size=STEP)


def of_foolbox() -> Callable[[Tensor, Tensor], Tensor]:
    import foolbox

    model = zoo.create(NAME).eval()
    preprocess = zoo.preprocess(model).preprocess
    normalisation = {"mean": list(preprocess.mean), "std": list(preprocess.std), "axis": -3}
    seen = foolbox.PyTorchModel(model, bounds=(0, 1), preprocessing=normalisation, device="cpu")
    attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=STEPS, random_start=True)

    def run(images: Tensor, labels: Tensor) -> Tensor:
        changed: Tensor = attack(seen, images, labels, epsilons=EPSILON)[1]
        return changed

    return run


def of_torchattacks() -> Callable[[Tensor, Tensor], Tensor]:
    import torchattacks

    model = zoo.attack.PixelModel.of(zoo.create(NAME)).eval()
    attack: Callable[[Tensor, Tensor], Tensor] = torchattacks.PGD(model, eps=EPSILON, alpha=STEP, steps=STEPS)
    return attack


ATTACKS = {"zoo": of_zoo, "foolbox": of_foolbox, "torchattacks": of_torchattacks}

if __name__ == "__main__":
    if sys.argv[1:2] == ["loop"]:
        loop(sys.argv[2])
    else:
        main()
