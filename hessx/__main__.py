"""``python -m hessx`` is the command ``hessx``."""

import sys

from hessx.cli import main

if __name__ == "__main__":
    sys.exit(main())
