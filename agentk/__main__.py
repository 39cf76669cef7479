"""``python -m agentk`` is the console script."""

from agentk.cli import main

main()
