"""A training that several tests compare theirs with."""

from pathlib import Path

import pytest
from support.small_training import run
from torch import Tensor


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    directory = tmp_path_factory.mktemp("whole") / "run"
    return directory, run(directory)
