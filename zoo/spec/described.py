"""What a plugin says about a repository's weights."""

from collections.abc import Mapping
from typing import Any

from zoo.spec.checked import Spec
from zoo.spec.preprocess import Preprocess


class Described(Spec, frozen=True):
    """What the ``config.json`` of a repository says about its weights: the result of a ``Plugin.repositories`` hook.

    Args:
        model: The name of one of the plugin's models.
        args: Arguments of its build function. They are held to ``Model.file_args``, as those of any weights file.
        preprocess: How the input is prepared, unless as the model's row says.
        params: Learnable elements of the network with these weights; 0 if not known.
        num_classes: Classes of the head, 0 without a head; None if not stated.
        classes: The data set whose classes they are, if the file says so.
        class_names: The names of the classes, if the file lists them.
        file: The file with the weights; by default ``model.safetensors``, else ``pytorch_model.bin``.
        license: The licence of the weights, if stated.

    Raises:
        SpecError: A value is not valid.

    Example:
        >>> import zoo
        >>> zoo.spec.Described("my_net", num_classes=2, class_names=("cat", "dog")).file
        ''
    """

    model: str
    args: Mapping[str, Any] = {}
    preprocess: Preprocess | None = None
    params: int = 0
    num_classes: int | None = None
    classes: str = ""
    class_names: tuple[str, ...] = ()
    file: str = ""
    license: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        is_possible = self.num_classes is None or 0 <= self.num_classes <= 1_000_000
        self.require(is_possible, f"num_classes = {self.num_classes} is not from 0 to 1,000,000")
        counted = len(self.class_names)
        self.require(counted in (0, self.num_classes), f"{counted} class names for {self.num_classes} classes")
