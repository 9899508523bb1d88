"""``python -m merging``: the command line, which lies in merging/cli/main.py."""

import sys

from merging.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
