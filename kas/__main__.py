"""``python -m kas``: the console script."""

from kas.cli import main

main()
