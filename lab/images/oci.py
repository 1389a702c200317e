"""Container images as one file in the OCI layout, which every runtime can import. Pure.

The same content gives the same bytes: entries are sorted, owned by root and have no time but the one they are given.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of a layer. `modified` matters only to those who compare it, such as Python with its compiled modules."""

    content: bytes
    mode: int = 0o644
    modified: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Paths without a leading slash."""

    files: Mapping[str, File] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    folders: Iterable[str] = ()

    def tar(self) -> bytes:
        return _tar(self.files, self.links, self.folders)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """`name` is complete, such as docker.io/podwire/echo:latest; `machine` as uname says it."""

    name: str
    machine: str
    layers: tuple[Layer, ...]
    entrypoint: tuple[str, ...] = ()
    path: str = "/usr/bin:/bin"


def archive(images: Iterable[Image]) -> bytes:
    """Return the images as one file. Layers they share are in it once."""
    blobs: dict[str, bytes] = {}
    entries = [_add(image, blobs) for image in images]
    index = _json({"schemaVersion": 2, "manifests": entries})
    files = {f"blobs/sha256/{digest}": File(content=blob) for digest, blob in blobs.items()}
    files |= {"oci-layout": File(content=_json({"imageLayoutVersion": "1.0.0"})), "index.json": File(content=index)}
    return _tar(files, {}, ())


def _add(image: Image, blobs: dict[str, bytes]) -> Mapping[str, Any]:
    """Put an image's parts among the blobs; return its entry in the index."""
    layers = [_put(blobs, _LAYER, layer.tar()) for layer in image.layers]
    config = {
        "architecture": _ARCHITECTURES.get(image.machine, image.machine),
        "os": "linux",
        "config": {"Env": [f"PATH={image.path}"], "Entrypoint": list(image.entrypoint)},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _put(blobs, _CONFIG, _json(config)),
        "layers": layers,
    }
    names = {"io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": image.name}
    return {**_put(blobs, _MANIFEST, _json(manifest)), "annotations": names}


def _put(blobs: dict[str, bytes], media_type: str, blob: bytes) -> Mapping[str, Any]:
    digest = hashlib.sha256(blob).hexdigest()
    blobs[digest] = blob
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(blob)}


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _tar(files: Mapping[str, File], links: Mapping[str, str], folders: Iterable[str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in sorted({*folders, *_parents({*files, *links})}):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, file in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(file.content), file.mode, file.modified
            tar.addfile(entry, io.BytesIO(file.content))
        for name, target in sorted(links.items()):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return buffer.getvalue()


def _parents(names: Iterable[str]) -> Iterable[str]:
    for name in names:
        parts = name.split("/")[:-1]
        yield from ("/".join(parts[: length + 1]) for length in range(len(parts)))
