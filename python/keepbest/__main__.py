"""The ``keepbest`` command, in this process."""

from __future__ import annotations

import signal
import sys

from keepbest import _native


def main() -> int:
    """Runs the command line of ``sys.argv`` and gives its exit code."""
    # Signals are the program's from here on, as where it runs alone: Python would only note them until it is back.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _native.main(["keepbest", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
