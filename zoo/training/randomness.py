"""Seeds derived from epoch and step, so that resuming needs no stored generator state."""

from hashlib import blake2b

import torch


def derive_seed(*place: int | str) -> int:
    """Derives a seed of 63 bits that depends on every part of ``place``, such as (seed, "order", epoch)."""
    text = "/".join(map(str, place))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator_at(*place: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Returns a generator seeded by :func:`derive_seed`."""
    return torch.Generator(device).manual_seed(derive_seed(*place))
