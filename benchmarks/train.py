"""Training and evaluation speed of Zoo's engine and of torchvision's and timm's loops, ResNet-20 on CIFAR-10.

Each loop runs in its own process, alternating with the others; values are medians over the rounds, with the slowest
and fastest round. The other libraries run with their defaults (float32, contiguous) and with Zoo's (bfloat16 and
channels_last). Needs CIFAR-10 in the folder ZOO_DATA. Run with
``make bench`` or ``python benchmarks/train.py [ROUNDS]``.
"""

import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence

import torch
from loops import command, store
from measure import table
from turns import Turn, take_turns

from zoo.data import ImageSet, load

BATCHES = (128, 512)
BATCH_OF_VALIDATION = 256
PEERS = ("torchvision", "timm")
WORKERS = min(
    os.cpu_count() or 1, 4
)  # for the other libraries' loaders; on two cores 2 are as fast as 1 and faster than none
WARM = 2 * WORKERS + 1  # warm-up steps of a turn: workers have prefetched batches during other turns
SECONDS = 1.5


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {WORKERS} workers for the peers' loaders\n")
    with tempfile.TemporaryDirectory() as folder:
        store(images_or_skip("train"), folder)
        for batch in BATCHES:
            compare(folder, batch, rounds)
    compare_evaluation(rounds)


def images_or_skip(split: str) -> ImageSet:
    """Returns CIFAR-10; ends the program with a message if it is missing."""
    if not os.environ.get("ZOO_DATA"):
        print(f"{sys.argv[0]} skipped: it needs CIFAR-10. Set ZOO_DATA to the folder that holds cifar10.")
        raise SystemExit
    return load("cifar10", split)


def compare(folder: str, batch: int, rounds: int) -> None:
    loops = {
        "zoo": command("zoo", folder, batch),
        "zoo, float32": command("zoo", folder, batch, precision="float32"),
        "bare": command("bare", folder, batch),
        "batches": command("batches", folder, batch),
    }
    for peer in PEERS:
        for is_given in (False, True):
            loops[_name(peer, is_given)] = command(peer, folder, batch, workers=WORKERS, is_given=is_given)
    turns = take_turns(loops, rounds, WARM, SECONDS)
    print(table((f"training, batch {batch}", *HEAD), peer_rows(turns, batch)))
    print(table(("part of a step", "ms", "relative to bare step"), step_rows(turns)))


HEAD = (
    "images/s, own defaults",
    "range",
    "Zoo is faster",
    "images/s, bf16 and channels_last",
    "range",
    "Zoo is faster",
)


def peer_rows(turns: Mapping[str, Sequence[Turn]], batch: int) -> list[tuple[str, ...]]:
    zoo = rate(turns["zoo"], batch)
    rows: list[tuple[str, ...]] = [
        ("zoo", f"{zoo:.0f}", spread(turns["zoo"], batch), "", "(its default)", "", ""),
        ("zoo, float32", *against(zoo, turns["zoo, float32"], batch), "", "", ""),
    ]
    for peer in PEERS:
        columns = [against(zoo, turns[_name(peer, is_given)], batch) for is_given in (False, True)]
        rows.append((peer, *columns[0], *columns[1]))
    return rows


def step_rows(turns: Mapping[str, Sequence[Turn]]) -> list[tuple[str, ...]]:
    whole, bare, drawn = (1e3 / rate(turns[name], 1) for name in ("zoo", "bare", "batches"))
    parts = {
        "forward, backward, optimiser on a fixed batch": bare,
        "Zoo's whole step": whole,
        "drawing and augmenting the batch": drawn,
        "everything else": whole - drawn,
    }
    return [(name, f"{ms:.1f}", f"{100 * ms / bare:.1f}%") for name, ms in parts.items()]


def compare_evaluation(rounds: int) -> None:
    batch, images = BATCH_OF_VALIDATION, images_or_skip("test")
    with tempfile.TemporaryDirectory() as folder:
        store(images.subset(range(len(images) // batch * batch), "test"), folder)  # a step is a whole batch then
        loops = {
            "zoo": command("evaluate zoo", folder, batch),
            "timm": command("evaluate timm", folder, batch, workers=WORKERS),
        }
        turns = take_turns(loops, rounds, WARM, SECONDS)
    zoo = rate(turns["zoo"], batch)
    head = (f"evaluation in float32, batch {batch}", "images/s", "range", "Zoo is faster")
    rows = [
        ("zoo", f"{zoo:.0f}", spread(turns["zoo"], batch), ""),
        ("timm", *against(zoo, turns["timm"], batch)),
    ]
    print(table(head, rows))


def rate(turns: Sequence[Turn], batch: int) -> float:
    """Returns the median of images per second."""
    return statistics.median(batch * turn.steps / turn.seconds for turn in turns)


def spread(turns: Sequence[Turn], batch: int) -> str:
    rates = [batch * turn.steps / turn.seconds for turn in turns]
    return f"{min(rates):.0f} to {max(rates):.0f}"


def against(zoo: float, turns: Sequence[Turn], batch: int) -> tuple[str, str, str]:
    own = rate(turns, batch)
    return f"{own:.0f}", spread(turns, batch), f"{zoo / own:.2f} times"


def _name(peer: str, is_given: bool) -> str:
    return f"{peer}, given" if is_given else peer


if __name__ == "__main__":
    main()
