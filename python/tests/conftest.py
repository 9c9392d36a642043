"""What tests share."""

from __future__ import annotations

import pathlib
import signal
import warnings

import pytest

# What a shell starts in the background ignores Ctrl-C, and what the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def run(tmp_path: pathlib.Path) -> str:
    """A path for a run that does not exist yet."""
    return str(tmp_path / "run")


@pytest.fixture(autouse=True)
def _failures_are_errors() -> None:
    """A save that fails where none is to fail must not pass unseen."""
    from keepbest import errors

    warnings.simplefilter("error", errors.SaveFailed)
