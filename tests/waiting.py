"""Await a condition instead of sleeping: the one place in the tests that lets time pass."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
# How many times longer everything may take here: on an emulated machine, for example.
PATIENCE = float(os.environ.get("PODWIRE_TEST_PATIENCE", "1"))


def eventually(condition: Callable[[], T], *, within: float = 30.0, every: float = 0.01) -> T:
    """Return the first truthy value of `condition`; fail with its last value when `within` seconds have passed."""
    within *= PATIENCE
    deadline = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s; the last answer was {value!r}")
        time.sleep(every)
    return value


def eventually_equal(read: Callable[[], T], wanted: T, *, within: float = 30.0, every: float = 0.01) -> None:
    """Read until it is what is wanted; fail with what was read last when `within` seconds have passed."""
    seen: T = read()

    def is_wanted() -> bool:
        nonlocal seen
        seen = read()
        return seen == wanted

    try:
        eventually(is_wanted, within=within, every=every)
    except AssertionError:
        raise AssertionError(f"not within {within} s: {seen!r} is not {wanted!r}") from None
