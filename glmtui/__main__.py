"""The command ``glmtui``, also as ``python -m glmtui``."""

import signal


def main() -> int:
    """Run the command line; return the exit code.

    As long as it is being imported, Ctrl+C ends the process as the system does: without a traceback.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from glmtui.cli.main import main as run

    return run()


if __name__ == "__main__":
    main()
