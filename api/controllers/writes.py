"""What a planner decided: objects to create, to replace and to delete. A value; `carrying_out` makes it true."""

from dataclasses import dataclass

from api.model import Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Writes:
    """Replacements carry the resourceVersion they were planned from, deletions the object's uid."""

    create: tuple[Object, ...] = ()
    replace: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.create or self.replace or self.delete)
