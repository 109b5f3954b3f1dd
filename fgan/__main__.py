"""`python -m fgan`: the command line."""

import sys

from fgan.cli import main

if __name__ == "__main__":
    sys.exit(main())
