"""`python -m facegen` is the console command `facegen`."""

from facegen.cli import main

if __name__ == "__main__":
    main()
