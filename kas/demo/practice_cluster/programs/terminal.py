"""Becomes another program, after taking the terminal that is its stdin as the controlling one.

    terminal.py PROGRAM [ARGUMENT…]

It must lead a session of its own. Exit code 127 if there is no such program.
"""

from __future__ import annotations

import fcntl
import os
import sys
import termios


def main(command: list[str]) -> int:
    """Does not return if all is well."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    try:
        os.execvp(command[0], command)  # noqa: S606 that is the purpose
    except OSError as error:
        print(f'exec: "{command[0]}": {error.strerror}', file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
