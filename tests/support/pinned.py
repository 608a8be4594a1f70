"""A file of weights on a hub."""

import hashlib

REPO = "alice/tiny"


FILE = "model.safetensors"


CONTENT = hashlib.shake_256(b"weights").digest(100_000)


SHA256 = hashlib.sha256(CONTENT).hexdigest()
