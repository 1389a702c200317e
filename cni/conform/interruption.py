"""How an examination is ended early: it is asked to at any moment, and ends where nothing is half made.

An exception out of a signal handler comes between any two instructions, so also between making a network namespace and
knowing that it is to be removed.
"""


class Interrupted(Exception):
    """The examination was asked to end. All it made is gone."""


class Interruption:
    """Whether the examination is to end. No lock: a signal handler may ask while another one does."""

    __slots__ = ("is_asked_for",)

    def __init__(self) -> None:
        self.is_asked_for = False

    def ask(self, *_: object) -> None:
        """Ask for it; may be set as a signal's handler."""
        self.is_asked_for = True

    def heed(self) -> None:
        """Raise Interrupted if it was asked for."""
        if self.is_asked_for:
            raise Interrupted
