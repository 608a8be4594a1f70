"""Writes what the pages of the course check answers with: ``python docs/course/exercises.py``.

The rule is that of ``zoo course check``: the answers that it computes, the tolerances and the hints of
``plugins/zoo_course/exercises.toml``.
"""

import json
from pathlib import Path

from zoo_course.exercises import exercises

FILE = Path(__file__).parents[1] / "javascripts" / "exercises.js"


def rules() -> dict[str, dict[str, object]]:
    """Returns the right answer, the tolerance and the hints of each chapter."""
    return {
        name: {
            "answer": round(asked.right_answer(), 6),
            "within": asked.within,
            "hint": {"en": asked.hint, "ja": asked.ja.hint},
        }
        for name, asked in exercises().items()
    }


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(
        "// Written by docs/course/exercises.py.\n"
        f"window.zooExercises = {json.dumps(rules(), indent=1, ensure_ascii=False)};\n",
        encoding="utf-8",
    )
