"""Values as TOML."""

from typing import Any

from hypothesis import strategies as st

from zoo.manifest import Weights

ENTRY = """\
# a comment
[resnet18.tag]
file = "model.safetensors"
repo = "timm/resnet18.tag"
pinned = false
size = 4
license = { weights = "MIT" }

[resnet18.tag.scores."imagenet-1k/validation"]
n = 50000
top1 = 70.1
source = "someone"
"""

KEYS = st.sampled_from(
    [*Weights.__struct_fields__, "", "..", "a.b", 'a"b', "\n", "__class__", "imagenet-1k/validation"]
)
VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["f" * 64, "0" * 40, "../x", "a/../b", "/etc/passwd", "\\\\host\\share", "\x00", "model.pth"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def toml(value: Any) -> str:
    """Returns a value as TOML, tables inline."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(letter):08x}" for letter in value) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
    return str(value)
