"""The frame every controller runs in: changes mark keys, a thread of its own looks at marked keys until stopped."""

import threading
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from api.controllers.mirror import Mirror, Notice
from kube.control import ControlLoop, SyncFailed

K = TypeVar("K", bound=Hashable)


class Controller(Protocol[K]):
    """Decides which keys a change concerns, and makes one key right. `sync` must do nothing when all is right."""

    @property
    def name(self) -> str: ...
    @property
    def loop(self) -> ControlLoop[K]: ...

    def on_change(self, notice: Notice) -> None:
        """Mark the keys this change concerns; called under the mirror's lock."""
        ...

    def sync(self, key: K) -> None:
        """Look at what is true now and write what is missing."""
        ...


class Running(Generic[K]):
    """A controller and its thread."""

    def __init__(self, controller: Controller[K], mirror: Mirror) -> None:
        self._controller = controller
        mirror.observe(controller.on_change)
        self.thread = threading.Thread(target=self._run, name=f"controller-{controller.name}", daemon=True)

    def stop(self) -> None:
        self._controller.loop.stop()

    def _run(self) -> None:
        self._controller.loop.run(lambda keys: sync_each(keys, self._controller.sync))


def sync_each(keys: frozenset[K], sync: Callable[[K], None]) -> None:
    """Make each key right; one that fails does not keep the others from their turn."""
    failures: dict[Hashable, Exception] = {}
    for key in keys:
        try:
            sync(key)
        except Exception as error:  # noqa: BLE001 - the loop's edge: it reports, waits and comes back to this key
            failures[key] = error
    if failures:
        raise SyncFailed(failures)
