"""Runs a program that ends with the process that wants it; that holds the other end of standard input.

A process of its own: what is killed, or ends at once by a signal, ends nothing itself.
"""

import os
import signal
import subprocess
import sys
from threading import Thread


def _end_with_standard_input() -> None:
    while os.read(0, 1 << 12):
        pass
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Run the program that the arguments are; end with its exit code."""
    Thread(target=_end_with_standard_input, daemon=True).start()
    try:
        code = subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL)
    except OSError as error:
        sys.exit(f"{sys.argv[1]}: {error.strerror}")
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
