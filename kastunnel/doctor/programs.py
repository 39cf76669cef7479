"""What this program runs on. The HTTP parser and the loop decide about speed and safety, so which ones are in use is said."""

from __future__ import annotations

import platform
import ssl
from importlib import import_module
from importlib.metadata import version

from kastunnel.doctor.findings import Finding, broken, ok


async def parts(*packages: str) -> Finding:
    """Their versions, loaded for true: a wheel may have been built for another machine."""
    try:
        parser = import_module("httptools.parser.parser")
        import_module("uvloop.loop")
    except ImportError as error:
        return broken(f"{error.name or error} cannot be loaded: {error}", "install from requirements/ for this machine")
    found = ", ".join(f"{name} {version(name)}" for name in ("uvloop", *packages))
    kind = "llhttp" if hasattr(parser, "HttpRequestParser") else "unknown"
    return ok(
        f"version {version('kubernetes-agent-server')} on Python {platform.python_version()}, {ssl.OPENSSL_VERSION}; "
        f"HTTP parser httptools {version('httptools')} ({kind}), {found}"
    )
