"""The console command `facegen`, which is also `python -m facegen`."""

import sys


def main() -> None:
    """Run the command; Ctrl-C while Python still imports it is one line, too, and no traceback."""
    try:
        from facegen.cli import main as command

        command()
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped.\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
