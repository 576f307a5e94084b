"""``glmtui`` and ``python -m glmtui``."""

from glmtui import interrupts


def main() -> int:
    """Run the command line. What it is made of takes a tenth of a second to import."""
    interrupts.end_at_once()
    from glmtui.cli.main import main as run

    return run()


if __name__ == "__main__":
    raise SystemExit(main())
