"""The table ``hook_args`` of this family's recipes."""

from typing import Annotated

import msgspec


class Constants(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Constants by which features are learned."""

    per_image: Annotated[int, msgspec.Meta(ge=1)] = 20
    """Patches or descriptors drawn from an image to learn features from; more if there are few images."""
