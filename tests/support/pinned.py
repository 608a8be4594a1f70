"""A file of weights on a hub, and the command line asked in this process."""

import hashlib

from click.testing import CliRunner, Result

from zoo import registry
from zoo.cli import cli

REPO = "alice/tiny"


FILE = "model.safetensors"


CONTENT = hashlib.shake_256(b"weights").digest(100_000)


SHA256 = hashlib.sha256(CONTENT).hexdigest()


def ask(*words: object) -> Result:
    registry.clear()
    return CliRunner().invoke(cli, [str(word) for word in words], prog_name="zoo")
