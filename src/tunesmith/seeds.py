"""Randomness as a function: every seed is folded from the run's seed and what it is for, never from history."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator


def fold(seed: int, *parts: str | int) -> int:
    """A 63-bit seed that is a pure function of `seed` and `parts` (BLAKE2b of their text).

    >>> fold(0, "augment", 3, 17) == fold(0, "augment", 3, 17) != fold(0, "augment", 3, 18)
    True
    """
    text = "\x1f".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


@contextlib.contextmanager
def seeded(value: int) -> Iterator[None]:
    """Seed torch (the processor's part), numpy and random for as long as the `with` lasts; then all is as it was."""
    import numpy
    import torch

    before = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    random.seed(value)
    numpy.random.seed(value % 2**32)
    torch.default_generator.manual_seed(value)
    try:
        yield
    finally:
        random.setstate(before[0])
        numpy.random.set_state(before[1])
        torch.set_rng_state(before[2])


def seed_everything(value: int) -> None:
    """Seed torch (all devices), numpy and random with `value`: what a step draws depends on nothing before it."""
    import numpy
    import torch

    random.seed(value)
    numpy.random.seed(value % 2**32)
    # torch.manual_seed would write down where it was called from, for each kind of device that is not there: 1 ms.
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(value)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(value)
