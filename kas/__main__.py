"""``python -m kas``, and the console script."""

from __future__ import annotations

import sys


def main() -> None:
    """Run one command. kubectl runs the plugin for each of its own: that must not wait for the other commands to be loaded."""
    if sys.argv[1:2] == ["credential"]:
        from kas.credential import plugin

        sys.exit(plugin.main(sys.argv[2:]))
    from kas import cli

    cli.main()


if __name__ == "__main__":
    main()
