"""What every object's metadata must satisfy, whatever its kind: name, labels, annotations, owners, finalizers."""

from api.model import Object
from api.resources import fields, names
from kube.errors import FieldError


def errors(obj: Object, check_name: names.Check) -> list[FieldError]:
    """Everything wrong with the metadata; `check_name` is the grammar this kind's names follow."""
    metadata = obj.get("metadata", {})
    return [
        *_name(metadata.get("name", ""), check_name),
        *names.labels("metadata.labels", metadata.get("labels", {})),
        *names.annotations("metadata.annotations", metadata.get("annotations", {})),
        *_owners(metadata.get("ownerReferences", [])),
        *_finalizers(metadata.get("finalizers", [])),
    ]


def _name(name: str, check_name: names.Check) -> list[FieldError]:
    if not name:
        return [fields.required("metadata.name", "name or generateName is required")]
    return check_name("metadata.name", name)


def _finalizers(finalizers: list[str]) -> list[FieldError]:
    return [
        error
        for index, finalizer in enumerate(finalizers)
        for error in names.qualified_name(f"metadata.finalizers[{index}]", finalizer)
    ]


def _owners(owners: list[Object]) -> list[FieldError]:
    path = "metadata.ownerReferences"
    found = [
        fields.invalid(f"{path}[{index}].{key}", owner.get(key, ""), "must not be empty")
        for index, owner in enumerate(owners)
        for key in ("apiVersion", "kind", "name", "uid")
        if not owner.get(key)
    ]
    controllers = [owner.get("name", "") for owner in owners if owner.get("controller")]
    if len(controllers) > 1:
        found.append(fields.invalid(path, controllers, "only one reference can have controller set to true"))
    return found
