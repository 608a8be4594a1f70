"""Measures the house: lines, modules, packages and floors of ``zoo/``, lines of plugins and tests.

``python benchmarks/house.py`` prints a table of this checkout; in a checkout of another revision, that one's.
"""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = {
    ".".join(("zoo", *file.relative_to(ROOT / "zoo").with_suffix("").parts)).removesuffix(".__init__"): file
    for file in (ROOT / "zoo").rglob("*.py")
}


def lines(folder: str) -> int:
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in (ROOT / folder).rglob("*.py"))


def room(module: str) -> str:
    """Returns the package or the module directly below ``zoo``."""
    return ".".join(module.split(".")[:2])


@cache
def below(room_name: str) -> frozenset[str]:
    """Returns the rooms that the modules of a room import."""
    rooms = set()
    for module, file in CORE.items():
        if room(module) == room_name:
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "zoo":
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
                    rooms |= {room(name if name in CORE else node.module) for name in names}
    return frozenset(rooms - {room_name, "zoo"})


@cache
def floor(room_name: str) -> int:
    """Returns 1 for a room that imports none, else one above the highest that it imports."""
    return 1 + max((floor(other) for other in below(room_name)), default=0)


def main() -> None:
    rooms = {room(module) for module in CORE} - {"zoo"}
    print(f"zoo      {lines('zoo'):6} lines, {len(CORE)} modules, {len(rooms)} rooms, {max(map(floor, rooms))} floors")
    for folder in ("plugins", "tests"):
        print(f"{folder:8} {lines(folder):6} lines")


if __name__ == "__main__":
    main()
