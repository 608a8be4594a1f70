"""Scores with intervals, and scores compared with what is claimed.

Names are bound on first use, so that torch-free code can read ``zoo.evaluation.interval`` at no cost.
"""

from typing import TYPE_CHECKING

from zoo.system import lazy

if TYPE_CHECKING:
    from zoo.evaluation.score import Report as Report
    from zoo.evaluation.score import batches as batches
    from zoo.evaluation.score import check_classes as check_classes
    from zoo.evaluation.score import evaluate as evaluate
    from zoo.evaluation.score import fingerprint_of_labels as fingerprint_of_labels
    from zoo.evaluation.score import frozen as frozen
    from zoo.evaluation.score import in_eval_mode as in_eval_mode
    from zoo.evaluation.score import versions as versions

__all__ = [
    "Report",
    "batches",
    "check_classes",
    "evaluate",
    "fingerprint_of_labels",
    "frozen",
    "in_eval_mode",
    "versions",
]

__getattr__ = lazy.binder(__name__, dict.fromkeys(__all__, "zoo.evaluation.score"))
