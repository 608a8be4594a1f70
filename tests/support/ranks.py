"""A process of several that need not run."""

from zoo.system.distributed import Processes


class OneOf(Processes):
    """Process ``rank`` of ``count``: its share can be looked at without the others."""

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count = rank, count
