"""What only this family's recipes say: the table ``hook_args``."""

from typing import Annotated

import msgspec


class Constants(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How features are learnt."""

    per_image: Annotated[int, msgspec.Meta(ge=1)] = 20
    """Patches or descriptors drawn from an image to learn features from; more if there are few images."""
