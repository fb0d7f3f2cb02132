"""Run the command line by ``python -m pykeen_advneg``."""

from .cli import main

if __name__ == "__main__":
    main()
