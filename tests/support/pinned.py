"""A file of weights on a hub."""

import hashlib
import json

REPO = "alice/tiny"


FILE = "model.safetensors"


def safetensors_of(size: int, seed: str = "weights") -> bytes:
    """Returns a whole safetensors file of ``size`` bytes, with one tensor of bytes that look random."""
    about = {"weights": {"dtype": "U8", "shape": [size - 256], "data_offsets": [0, size - 256]}}
    header = json.dumps(about).encode().ljust(256 - 8)
    return len(header).to_bytes(8, "little") + header + hashlib.shake_256(seed.encode()).digest(size - 256)


CONTENT = safetensors_of(100_000)


SHA256 = hashlib.sha256(CONTENT).hexdigest()
