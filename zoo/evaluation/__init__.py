"""Scores with intervals, and their comparison with published ones.

Names are bound on first use, so that torch-free code can read ``zoo.evaluation.interval`` at no cost.
"""

from typing import TYPE_CHECKING

from zoo.system import lazy

if TYPE_CHECKING:
    from zoo.evaluation.batching import batches as batches
    from zoo.evaluation.measured import fingerprint_of_labels as fingerprint_of_labels
    from zoo.evaluation.measured import versions as versions
    from zoo.evaluation.modes import frozen as frozen
    from zoo.evaluation.modes import in_eval_mode as in_eval_mode
    from zoo.evaluation.score import Report as Report
    from zoo.evaluation.score import check_classes as check_classes
    from zoo.evaluation.score import evaluate as evaluate

_HOMES = {
    "Report": "score",
    "batches": "batching",
    "check_classes": "score",
    "evaluate": "score",
    "fingerprint_of_labels": "measured",
    "frozen": "modes",
    "in_eval_mode": "modes",
    "versions": "measured",
}

__all__ = list(_HOMES)

__getattr__ = lazy.binder(__name__, {name: f"zoo.evaluation.{home}" for name, home in _HOMES.items()})
