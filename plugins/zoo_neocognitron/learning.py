"""The growth of connections: winner-take-all, add-if-silent, labelled cells, reference vectors. No gradients.

Each rule sees one pattern after the other, in the order given, and changes one layer, while the layers
before it stay as they are.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_neocognitron.answers import nearest_segment
from zoo_neocognitron.cells import SCells, fit

STRENGTH = 1e4
"""q where its size is free: so large that the 1 in the S-cells' fraction no longer counts."""

Batches = Callable[[], Iterator[tuple[Tensor, Tensor]]]
"""Gives what a layer sees of the patterns, B C H W, with their labels B; every call the same."""


def patch(cells: SCells, x: Tensor, place: int) -> Tensor:
    """Returns what the cells at ``place`` (row times size plus column) see of one pattern 1 C H W: C k k."""
    row, column = divmod(place, cells.size)
    window = cells.window
    return fit(x, cells.size, window)[0, :, row : row + window, column : column + window]


def representatives(u: Tensor, column: int) -> dict[int, int]:
    """Returns the plane's representative by plane, at most one each, among answers K H W of one pattern.

    The largest cell of every S-column, ``column`` cells a side over all planes, is a candidate; a plane's
    largest candidate represents it.
    """
    u = u.detach()
    best, plane = u.max(dim=0)  # H W
    _, places = F.max_pool2d(best[None, None], column, stride=1, padding=column // 2, return_indices=True)
    chosen: dict[int, int] = {}
    for place in sorted(set(places.flatten().tolist())):
        value, owner = float(best.view(-1)[place]), int(plane.view(-1)[place])
        if value > 0 and (owner not in chosen or value > float(u[owner].view(-1)[chosen[owner]])):
            chosen[owner] = place
    return chosen


def reinforce(cells: SCells, x: Tensor, chosen: dict[int, int], q: float) -> None:
    """Adds ``da = q c u`` at each representative's window, and ``db = q / 2 v``; other planes stay untouched."""
    v = cells.v(x)[0, 0].flatten()
    for plane, place in chosen.items():
        cells.weight.data[plane] += q * cells.mask[0] * patch(cells, x, place)
        if cells.b is not None:
            cells.b.data[plane] += q / 2 * v[place]


def compete(cells: SCells, batches: Batches, *, q: float, column: int = 5) -> None:
    """Learns by winner-take-all with a fixed number of planes (1980): one presentation of every pattern."""
    for inputs, _ in batches():
        for x in inputs[:, None]:
            reinforce(cells, x, representatives(cells(x)[0], column), q)


def silent_sites(cells: SCells, x: Tensor, v: Tensor, theta: float, activity: float) -> Tensor:
    """Returns where no S-cell answers although the input is active: bool B H W.

    Active is a V-cell with more than ``activity`` times the pattern's largest, and with more than nothing.
    """
    peak = v.amax(dim=(1, 2, 3), keepdim=True)
    is_active = (v > 1e-5) & (v >= activity * peak)
    if cells.planes:
        is_active &= cells.respond(x, theta, v=v).amax(dim=1, keepdim=True) <= 0
    return is_active[:, 0]


def add_if_silent(cells: SCells, batches: Batches, *, theta: float, activity: float, limit: int = 1000) -> None:
    """Adds a plane where all cells are silent though the input is active; its weights are that input's (2013).

    Of several such sites the most active comes first. Planes are never changed once added.
    """
    for inputs, _ in batches():
        v = cells.v(inputs)
        silent = silent_sites(cells, inputs, v, theta, activity)
        earlier = cells.planes
        for x, own_v, sites in zip(inputs[:, None], v[:, None], silent, strict=True):
            if cells.planes > earlier and sites.any():  # planes that earlier patterns of this batch added
                sites = sites & (cells.respond(x, theta, cells.weight[earlier:], own_v).amax(dim=1)[0] <= 0)
            while sites.any() and cells.planes < limit:
                place = int(torch.where(sites, own_v[0, 0], -1.0).argmax())
                new = STRENGTH * cells.mask * patch(cells, x, place)
                cells.add(new)
                sites = sites & (cells.respond(x, theta, new, own_v)[0, 0] <= 0)
                sites.view(-1)[place] = False  # where rounding keeps it silent to itself


def compete_and_grow(
    cells: SCells, batches: Batches, *, theta: float, activity: float, column: int = 5, limit: int = 1000
) -> None:
    """Learns by winner-take-all whose planes begin as seed cells (2003).

    Representatives are reinforced; where then no cell answers within a column's reach although the input is
    active, the most active site becomes the seed of a new plane.
    """
    for inputs, _ in batches():
        for x in inputs[:, None]:
            v = cells.v(x)
            if cells.planes:
                reinforce(cells, x, representatives(cells.respond(x, theta, v=v)[0], column), STRENGTH)
            while cells.planes < limit:
                is_active = (v >= activity * v.max()) & (v > 1e-5)
                if cells.planes:
                    largest = cells.respond(x, theta, v=v).amax(dim=1, keepdim=True)
                    is_active &= F.max_pool2d(largest, column, stride=1, padding=column // 2) <= 0
                if not is_active.any():
                    break
                place = int(torch.where(is_active, v, -1.0).argmax())
                cells.add(STRENGTH * cells.mask * patch(cells, x, place))


def label_cells(cells: SCells, batches: Batches, *, passes: int) -> Tensor:
    """Learns by supervised competition in the highest stage (2003); returns the planes' labels, int64 K.

    The largest cell wins. Where its label is right, its plane learns; where it is wrong, or all are
    silent, the most active site seeds a plane of the right label.
    """
    labels: list[int] = []
    for _ in range(passes):
        errors = 0
        for inputs, targets in batches():
            for x, target in zip(inputs[:, None], targets.tolist(), strict=True):
                u = cells.respond(x, cells.theta)[0].detach().flatten() if labels else x.new_zeros(1)
                plane, place = divmod(int(u.argmax()), cells.size**2)
                if float(u.max()) > 0 and labels[plane] == target:
                    reinforce(cells, x, {plane: place}, STRENGTH)
                    continue
                errors += 1
                place = int(cells.v(x).argmax())
                cells.add(STRENGTH * cells.mask * patch(cells, x, place))
                labels.append(target)
        if not errors:
            break
    return torch.tensor(labels)


def choose_references(gram: Tensor, labels: Tensor, *, classes: int, passes: int, nearness: float = 0.0) -> list[int]:
    """Returns which of N vectors become references (2013): those the references before them get wrong, or not at all.

    ``gram`` holds all cosines, N N. Not at all: the nearest segment is at a cosine of ``nearness`` or less.
    Returns indices in the order in which they were added.
    """
    of_class: list[list[int]] = [[] for _ in range(classes)]
    chosen: list[int] = []
    for _ in range(passes):
        before = len(chosen)
        for index, label in enumerate(labels.tolist()):
            if index in of_class[label]:
                continue
            near = [
                float(nearest_segment(gram[index, members][None], gram[members][:, members])) if members else 0.0
                for members in of_class
            ]
            if max(near) <= nearness or near.index(max(near)) != label:
                of_class[label].append(index)
                chosen.append(index)
        if len(chosen) == before:
            break
    return chosen
