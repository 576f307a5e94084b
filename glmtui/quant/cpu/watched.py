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
        continue
    os.killpg(0, signal.SIGKILL)


def main(command: list[str]) -> None:
    """Run `command` and end as it does."""
    Thread(target=_end_with_standard_input, daemon=True).start()
    try:
        code = subprocess.call(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main(sys.argv[1:])
