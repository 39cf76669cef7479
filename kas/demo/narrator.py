"""Tells the demo's story: in colour on a terminal, plain elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape


class Narrator:
    """Prints what happens and counts what failed."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._steps = 0
        self.failures: list[str] = []

    def chapter(self, title: str) -> None:
        """A new part of the story."""
        self._console.print(f"\n[bold cyan]▌ {escape(title)}[/]")

    def say(self, text: str) -> None:
        """A sentence."""
        self._console.print(escape(text))

    def command(self, line: str) -> None:
        """What a person would type."""
        self._console.print(f"[bold green]$[/] [bold]{escape(line)}[/]")

    def output(self, text: str) -> None:
        """What the program answered."""
        for line in text.rstrip().splitlines():
            self._console.print(f"  [dim]│[/] {escape(line)}")

    def passed(self, what: str = "") -> None:
        """The step did what it should."""
        self._steps += 1
        if what:
            self._console.print(f"  [green]✔[/] {escape(what)}")

    def failed(self, what: str) -> None:
        """The step did not; the demo goes on and ends with a failure."""
        self._steps += 1
        self.failures.append(what)
        self._console.print(f"  [bold red]✘ {escape(what)}[/]")

    def skipped(self, what: str) -> None:
        """A step that this machine cannot do, and why."""
        self._console.print(f"  [yellow]– skipped: {escape(what)}[/]")

    def verdict(self) -> bool:
        """The last word; True if no step failed."""
        if self.failures:
            self._console.print(f"\n[bold red]{len(self.failures)} of {self._steps} steps failed[/]")
            return False
        self._console.print(f"\n[bold green]all {self._steps} steps passed[/]")
        return True
