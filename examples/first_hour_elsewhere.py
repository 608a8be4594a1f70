"""Makes an environment in a folder that sees the libraries of this one: PyTorch is not installed a second time."""

import sys
from pathlib import Path

from zoo.testing import wheel

if __name__ == "__main__":
    wheel.environment(Path(sys.argv[1]))
