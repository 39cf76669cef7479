"""Prints which rows have a test. Exit code 1: a mark names no row, or a row has neither a test nor a reason why not yet."""

from __future__ import annotations

import contextlib
import io
import sys

import pytest

from tests.fault_catalogue import Coverage, excuses, load


class _Marks:
    """A pytest plugin that notes the ``covers`` marks of the tests that it collects."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            test = item.nodeid.partition("[")[0]
            self.found += [(row_id, test) for mark in item.iter_markers("covers") for row_id in mark.args]


def main() -> int:
    """Collect, print, judge."""
    marks = _Marks()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = pytest.main(["--collect-only", "--quiet", "--no-header", "tests"], plugins=[marks])
    if code != pytest.ExitCode.OK:
        print(said.getvalue()[-4000:])
        print("the tests could not be collected")
        return 1
    coverage = Coverage.of(load(), marks.found, excuses())
    print(coverage.report())
    for problem in coverage.problems:
        print(problem)
    return 1 if coverage.problems else 0


if __name__ == "__main__":
    sys.exit(main())
