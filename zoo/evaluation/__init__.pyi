from zoo.evaluation.batching import batches as batches
from zoo.evaluation.measured import fingerprint_of_labels as fingerprint_of_labels
from zoo.evaluation.measured import versions as versions
from zoo.evaluation.modes import frozen as frozen
from zoo.evaluation.modes import in_eval_mode as in_eval_mode
from zoo.evaluation.score import Report as Report
from zoo.evaluation.score import check_classes as check_classes
from zoo.evaluation.score import evaluate as evaluate
