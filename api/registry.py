"""Create, read, change, delete and watch objects of every kind: the one door to the store.

Concurrency is optimistic: every write is guarded by the revision it started from, so of two writers that saw the same
object exactly one wins. A write and the claims it needs are one commit. When somebody else took a claim in between,
the strategy is asked again.
"""

import secrets
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from api import lifecycle
from api.encoding import decode
from api.model import Admission, Object, Strategy
from api.patching import merge_patch
from api.selection import Kept, Selection
from api.store.store import Guard, Store
from api.watch.hub import Hub
from api.watch.topic import Topic
from api.writer import Writer
from kube.errors import AlreadyExists, Conflict, FieldError, Forbidden, Invalid, NotFound
from kube.resources import NAMESPACES, ResourceType
from kube.selectors import FieldSelector, LabelSelector

Change = Callable[[Object], Object]

_SUFFIX_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"  # k8s.io/apimachinery rand: no vowels, so no words


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a write is meant: to a subresource, only tried, or only over a certain object."""

    subresource: str | None = None
    dry_run: bool = False
    resource_version: str = ""
    uid: str = ""
    applied: bool = False  # the object comes from server-side apply, with its managedFields computed


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """The outcome of a delete: the object, and whether it is gone or only stamped."""

    obj: Object
    removed: bool


PLAIN: Final = Options()


class Registry:
    """All kinds over one store; safe to use from any thread."""

    def __init__(
        self,
        store: Store,
        strategies: Iterable[Strategy],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._now = now
        self.hub = Hub(store, strategies)
        self._writer = Writer(store, self.hub)

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        return tuple(topic.strategy for topic in self.hub.topics.values())

    @property
    def is_closed(self) -> bool:
        return self.hub.is_closed

    def topic(self, resource: ResourceType) -> Topic:
        return self.hub.topics[resource]

    def close(self) -> None:
        """End every watch and subscription; the store is the caller's."""
        self.hub.close()

    def find(self, resource: ResourceType, namespace: str | None, name: str) -> Kept:
        """The object as bytes, or NotFound."""
        kept = self.topic(resource).get(namespace, name)
        if kept is None:
            raise NotFound.of(resource, name)
        return kept

    def get(self, resource: ResourceType, namespace: str | None, name: str) -> Object:
        return _decoded(self.find(resource, namespace, name))

    def create(self, resource: ResourceType, namespace: str | None, obj: Object, options: Options = PLAIN) -> Object:
        """Add an object; a name is generated from generateName when it has none."""
        draft = lifecycle.read(resource, obj)
        lifecycle.place(resource, draft, namespace, None)
        generates = not draft["metadata"].get("name") and bool(draft["metadata"].get("generateName"))
        uid = str(uuid.uuid4())
        while True:
            born = lifecycle.born(draft, now=self._now(), uid=uid, suffix=_suffix, applied=options.applied)
            try:
                return self._create(resource, born, options)
            except AlreadyExists:
                if not generates:
                    raise

    def replace(
        self, resource: ResourceType, namespace: str | None, name: str, obj: Object, options: Options = PLAIN
    ) -> Object:
        """Write the object as it should be; with a resourceVersion, only over exactly that version."""
        return self.update(resource, namespace, name, lambda _: obj, options)

    def patch(
        self, resource: ResourceType, namespace: str | None, name: str, patch: Object, options: Options = PLAIN
    ) -> Object:
        """Merge into the newest object; null removes a field."""
        return self.update(resource, namespace, name, merge_patch.change(patch), options)

    def update(
        self, resource: ResourceType, namespace: str | None, name: str, change: Change, options: Options = PLAIN
    ) -> Object:
        """Apply a function to the newest object, again if somebody else writes in between.

        The function gets a copy of its own. A resourceVersion that it sets is a precondition.
        """

        def attempt() -> Object:
            kept = self.find(resource, namespace, name)
            old = _decoded(kept)
            wanted = lifecycle.read(resource, change(_decoded(kept)))
            lifecycle.place(resource, wanted, namespace, name)
            _expect(resource, kept, wanted["metadata"].get("resourceVersion"))
            new = lifecycle.replaced(resource, old, wanted, subresource=options.subresource, applied=options.applied)
            new = self.strategy(resource).default(new)
            _refuse(resource, name, self.strategy(resource).validate(new, old))
            return self._overwrite(resource, kept, new, options)

        return self._writer.in_turn(resource, name, attempt)

    def apply(
        self, resource: ResourceType, namespace: str | None, name: str, change: Change, options: Options = PLAIN
    ) -> tuple[Object, bool]:
        """Server-side apply: change the object, or create it from nothing; tells whether it was created."""
        options = replace(options, applied=True)
        while True:
            try:
                return self.update(resource, namespace, name, change, options), False
            except NotFound:
                if options.subresource or self.topic(resource).get(namespace, name) is not None:
                    raise
            wanted = lifecycle.read(resource, change({}))
            lifecycle.place(resource, wanted, namespace, name)
            try:
                return self.create(resource, namespace, wanted, options), True
            except AlreadyExists:
                continue  # somebody created it in between: change theirs

    def delete(
        self,
        resource: ResourceType,
        namespace: str | None,
        name: str,
        grace_seconds: int | None = None,
        options: Options = PLAIN,
    ) -> Deletion:
        """Remove an object, or stamp it for deletion when somebody still has to let go of it."""

        def attempt() -> Deletion:
            kept = self.find(resource, namespace, name)
            old = _decoded(kept)
            _expect(resource, kept, options.resource_version)
            lifecycle.expect_uid(resource, old, options.uid)
            seconds = self.strategy(resource).graceful_seconds(old, grace_seconds)
            if seconds <= 0 and not lifecycle.finalizers(resource, old):
                return Deletion(obj=self._remove(resource, kept, old, options), removed=True)
            dying = lifecycle.dying(old, now=self._now(), seconds=max(seconds, 0))
            dying = self._overwrite(resource, kept, self.strategy(resource).default(dying), options)
            return Deletion(obj=dying, removed=False)

        return self._writer.in_turn(resource, name, attempt)

    def strategy(self, resource: ResourceType) -> Strategy:
        return self.topic(resource).strategy

    def _create(self, resource: ResourceType, born: Object, options: Options) -> Object:
        strategy, metadata = self.strategy(resource), born["metadata"]
        obj = strategy.default(born)
        namespace, name = metadata.get("namespace"), metadata.get("name") or metadata.get("generateName") or ""
        _refuse(resource, name, strategy.validate(obj, None))

        def attempt() -> Object:
            guards = self._namespace_guard(resource, namespace, name)
            if self.topic(resource).get(namespace, name) is not None:
                raise AlreadyExists.of(resource, name)
            return self._put(resource, None, strategy.admit(obj, None, self.hub.claims), guards, options)

        return self._writer.in_turn(resource, name, attempt)

    def _namespace_guard(self, resource: ResourceType, namespace: str | None, name: str) -> Sequence[Guard]:
        """The namespace must exist and stay as it is until the commit, or its deletion could miss the object."""
        if not resource.namespaced or NAMESPACES not in self.hub.topics or namespace is None:
            return []
        home = self.find(NAMESPACES, None, namespace)
        if "deletionTimestamp" in _decoded(home)["metadata"]:
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise Forbidden(f'{resource.plural} "{name}" is forbidden: {why}')
        return [Guard(key=self.topic(NAMESPACES).key(None, namespace), revision=home.revision)]

    def _overwrite(self, resource: ResourceType, kept: Kept, new: Object, options: Options) -> Object:
        old = _decoded(kept)
        admission = self.strategy(resource).admit(new, old, self.hub.claims)
        if lifecycle.is_finished(resource, admission.obj):
            return self._remove(resource, kept, admission.obj, options)
        if _content(admission.obj) == _content(old):
            return old
        return self._put(resource, kept, admission, [], options)

    def _put(
        self,
        resource: ResourceType,
        kept: Kept | None,
        admission: Admission,
        guards: Sequence[Guard],
        options: Options,
    ) -> Object:
        revision = self._writer.put(resource, kept, admission, guards, dry_run=options.dry_run)
        return _at(admission.obj, revision)

    def _remove(self, resource: ResourceType, kept: Kept, obj: Object, options: Options) -> Object:
        if not options.dry_run:
            self._writer.remove(resource, kept)
        return obj

    def list(
        self,
        resource: ResourceType,
        namespace: str | None = None,
        *,
        label_selector: LabelSelector | None = None,
        field_selector: FieldSelector | None = None,
    ) -> list[Object]:
        """Objects of a kind, in one namespace or in all."""
        selection = Selection(
            namespace=namespace, labels=label_selector or LabelSelector(), fields=field_selector or FieldSelector()
        )
        return [_decoded(kept) for kept in self.topic(resource).cut().items if selection.includes(kept)]


def _expect(resource: ResourceType, kept: Kept, revision: str | None) -> None:
    """The object must still be at this revision, if one is given."""
    if revision and revision != str(kept.revision):
        raise Conflict.of(resource, kept.name)


def _refuse(resource: ResourceType, name: str, errors: Sequence[FieldError]) -> None:
    if errors:
        raise Invalid.of(resource, name, errors)


def _decoded(kept: Kept) -> Object:
    obj: Object = decode(kept.encoded)
    return obj


def _content(obj: Object) -> Object:
    """The object without the revision it was written at."""
    metadata = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
    return {**obj, "metadata": metadata}


def _at(obj: Object, revision: int) -> Object:
    """The object as written at a revision; 0, from a dry run, is not told."""
    content = _content(obj)
    if revision:
        content["metadata"]["resourceVersion"] = str(revision)
    return content


def _suffix() -> str:
    return "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(5))
