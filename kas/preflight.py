"""What the machine must offer before kas starts: each lack is told with the option that names it and what to do."""

from __future__ import annotations

import errno
import os
import socket
import stat
import tempfile
from pathlib import Path

from kas.addresses import ListenAddress
from kas.errors import ConfigurationError

MAX_SECRET_BYTES = 64 * 1024  # tokens, passwords and keys are far smaller; a wrong path may name anything
BACKLOG = 1024  # connections that wait in the kernel while kas is busy; Linux cuts it to net.core.somaxconn


def prepare_state_dir(state_dir: Path) -> None:
    """Create the state directory (mode 0700) if it is missing, and make sure that it can be written.

    Raises ConfigurationError otherwise.
    """
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=state_dir):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"state_dir: {state_dir} cannot be written: {error.strerror}; make it a directory of the user that runs kas "
            f"(here: {_user_name(os.geteuid())}), or set another state_dir"
        ) from error


def refuse_foreign_state(state_dir: Path) -> None:
    """For the operator's commands: what root creates in the state directory, the server's own user could not write.

    Raises ConfigurationError when root works in a directory that belongs to somebody else.
    """
    try:
        owner = state_dir.stat().st_uid
    except OSError:
        return
    if os.geteuid() == 0 and owner != 0:
        name = _user_name(owner)
        raise ConfigurationError(
            f"state_dir: {state_dir} belongs to {name}: run this command as that user (sudo -u {name} kas …)"
        )


def listening_socket(door: str, address: ListenAddress, *, reuse_port: bool = False) -> socket.socket:
    """A listening TCP socket, non-blocking, which the caller owns.

    ``reuse_port`` lets other processes listen beside this one. Raises ConfigurationError that names the option and the remedy.
    """
    option = f"{door}.listen"
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise ConfigurationError(
            f"{option}: the host of {address} is not known to this machine: {error.strerror}"
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address.host != "::"))
        listener.bind(target)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"{option}: {address} {_listen_trouble(error)}") from error
    return listener


def _listen_trouble(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "is in use by another program: stop that one (perhaps another kas), or choose another port"
    if error.errno == errno.EACCES:
        return "may not be used by this user: choose a port from 1024 on, or grant CAP_NET_BIND_SERVICE"
    if error.errno == errno.EADDRNOTAVAIL:
        return "is not an address of this machine: choose one that it has, or 0.0.0.0"
    return f"cannot be listened on: {error.strerror}"


def read_secret(path: Path, option: str) -> str:
    """The text of a secret file without white space around it.

    Raises ConfigurationError if it cannot be read, is empty, or every user of the machine may read it.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & stat.S_IROTH:
                raise ConfigurationError(f"{option}: every user may read {path}: chmod o-r {path}")
            content = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{option}: {path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_SECRET_BYTES:
        raise ConfigurationError(f"{option}: {path} is larger than {MAX_SECRET_BYTES} bytes: this is not a secret file")
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise ConfigurationError(f"{option}: {path} is not text") from None
    if not text:
        raise ConfigurationError(f"{option}: {path} is empty")
    return text


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
