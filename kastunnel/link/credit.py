"""Windows and budgets: how far a direction may run ahead, and what all of them together may hold."""

from __future__ import annotations

from kastunnel.link.limits import INITIAL_WINDOW, MAX_WINDOW


class Budget:
    """Bytes of window growth that may be out at once; a child takes from its parent too."""

    __slots__ = ("limit", "parent", "used")

    def __init__(self, limit: int, parent: Budget | None = None) -> None:
        self.limit = limit
        self.used = 0
        self.parent = parent

    def __repr__(self) -> str:
        return f"<Budget {self.used}/{self.limit}>"

    def take(self, count: int) -> bool:
        """Take ``count`` bytes, or nothing at all."""
        if self.used + count > self.limit or (self.parent is not None and not self.parent.take(count)):
            return False
        self.used += count
        return True

    def give(self, count: int) -> None:
        """Give ``count`` bytes back that were taken."""
        self.used -= count
        if self.parent is not None:
            self.parent.give(count)


class Window:
    """The size of one direction's window: INITIAL_WINDOW for nothing, more only while the budget has room."""

    __slots__ = ("_budget", "size")

    def __init__(self, budget: Budget) -> None:
        self.size = INITIAL_WINDOW
        self._budget = budget

    def grow(self, maximum: int = MAX_WINDOW) -> bool:
        """Double, if that is allowed and the budget has room."""
        size = min(2 * self.size, maximum)
        if size <= self.size or not self._budget.take(size - self.size):
            return False
        self.size = size
        return True

    def shrink(self) -> None:
        """Back to INITIAL_WINDOW; idempotent, so also the way to let go."""
        if self.size > INITIAL_WINDOW:
            self._budget.give(self.size - INITIAL_WINDOW)
            self.size = INITIAL_WINDOW
