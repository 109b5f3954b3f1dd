"""A pytest plugin for `gpu.py`: a failure is printed at once, in case that the time runs out."""

import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Called by pytest for each phase of a test, on xdist's controller too."""
    if report.failed:
        print(f"\n--- {report.nodeid} ({report.when})\n{report.longreprtext[-3000:]}", flush=True)
