"""`python -m avalanche_clts.cli`, for what starts modules and not commands, such as `accelerate launch`."""

import sys

from . import main

sys.exit(main())
