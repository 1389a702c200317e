"""Conditions in an object's status: pure. A condition that keeps its status keeps the time of its last transition."""

from api.model import Object


def find(obj: Object, kind: str) -> Object:
    """The condition of this type; {} when there is none."""
    conditions = obj.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each.get("type") == kind), {})


def status_of(obj: Object, kind: str) -> str:
    return str(find(obj, kind).get("status", ""))


def put(obj: Object, condition: Object, now: str) -> Object:
    """The object with this condition; the same object when it says so already."""
    before = find(obj, condition["type"])
    since = before.get("lastTransitionTime", now) if before.get("status") == condition["status"] else now
    stamped = condition | {"lastTransitionTime": since}
    if stamped == before:
        return obj
    status = obj.get("status", {})
    others = [each for each in status.get("conditions", []) if each.get("type") != condition["type"]]
    return obj | {"status": status | {"conditions": [*others, stamped]}}
