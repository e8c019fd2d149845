"""`python -m tinyamp` is the `tinyamp` command."""

from __future__ import annotations

import sys

from tinyamp.cli import main

if __name__ == "__main__":
    sys.exit(main())
