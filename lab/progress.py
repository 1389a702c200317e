"""What a long operation says while it runs; the command line draws it, tests collect it."""

from contextlib import AbstractContextManager
from typing import Protocol


class Step(Protocol):
    def say(self, text: str) -> None:
        """Set the words beside the step: what it waits for, in the end what it brought."""
        ...


class Progress(Protocol):
    def step(self, title: str) -> AbstractContextManager[Step]:
        """One step, from entering to leaving; an exception marks it failed."""
        ...
