"""Container images made of Debian's static busybox, as archives for ``ctr images import``: no registry is asked."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
DIRECTORIES = ("bin", "tmp", "etc", "root", "proc", "sys", "dev", "usr", "usr/bin", "var", "var/log")


def write_images(folder: Path) -> list[Path]:
    """Write localhost/busybox:1, and localhost/pause:1 for pod sandboxes, into ``folder``; returns the archives."""
    layer = _busybox_layer()
    busybox, pause = folder / "busybox.tar", folder / "pause.tar"
    _write_image(busybox, "localhost/busybox:1", ["sh"], layer)
    _write_image(pause, "localhost/pause:1", ["sleep", "2147483647"], layer)
    return [busybox, pause]


def _busybox_layer() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in DIRECTORIES:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(entry)
        _add(tar, "bin/busybox", BUSYBOX.read_bytes(), 0o755)
        for applet in sorted({*subprocess.check_output([BUSYBOX, "--list"], text=True).split()} - {"busybox"}):
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
        _add(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
        _add(tar, "etc/group", b"root:x:0:\nnogroup:x:65534:\n")
    return buffer.getvalue()


def _write_image(path: Path, tag: str, command: list[str], layer: bytes) -> None:
    architecture = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": command, "Env": ["PATH=/bin:/usr/bin"]},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
        }
    ).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [tag], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(path, "w") as tar:
        _add(tar, config_name, config)
        _add(tar, "layer.tar", layer)
        _add(tar, "manifest.json", manifest)


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))
