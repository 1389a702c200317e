"""Images made of this machine's files."""

import io
import json
import tarfile

import pytest

from lab.images import names, oci, own


def opened(archive):
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar if entry.isfile()}


@pytest.fixture(scope="module")
def images():
    return own.images()


def test_the_same_content_gives_the_same_bytes(images):
    assert oci.archive(images) == oci.archive(own.images())


def test_a_layer_that_images_share_is_in_the_file_once(images):
    files = opened(oci.archive(images))
    index = json.loads(files["index.json"])

    called = [entry["annotations"]["io.containerd.image.name"] for entry in index["manifests"]]

    assert called == [names.PAUSE, names.ECHO]
    # Two layers, two configurations, two manifests.
    assert sum(name.startswith("blobs/") for name in files) == 6


def test_the_echo_image_has_all_its_program_imports(images, tmp_path):
    """Not chrooted: names only. That it runs is shown where containers are."""
    (echo,) = (image for image in images if image.name == names.ECHO)
    python, program = echo.entrypoint[0], echo.entrypoint[-1]

    files = {name for layer in echo.layers for name in layer.files}

    assert {python.lstrip("/"), program.lstrip("/"), "bin/busybox"} <= files
    assert any(name.endswith("/socket.py") for name in files)
    assert any("libc.so" in name for name in files)


def test_folders_stand_before_what_is_in_them():
    layer = oci.Layer(files={"a/b/c": oci.File(content=b"")}, links={"d/e": "../a"}, folders=("tmp",))

    with tarfile.open(fileobj=io.BytesIO(layer.tar())) as tar:
        assert tar.getnames() == ["a", "a/b", "d", "tmp", "a/b/c", "d/e"]
