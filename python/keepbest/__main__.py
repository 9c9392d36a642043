"""The ``keepbest`` command, in this process."""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    """Runs the command line of ``sys.argv`` and gives its exit code."""
    # Signals are the program's from here on, as where it runs alone: Python would only note them until it is back. What the process was started to
    # ignore stays ignored.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from keepbest import _native

    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ:
        from keepbest.torch import _distributed

        return _distributed.main(sys.argv[1:])
    return _native.main(["keepbest", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
