"""The entry point of a template in a fresh interpreter under `--reload`."""

import sys

from asgireload.development.template.session import DevelopmentSession
from asgireload.template.main import main

if __name__ == "__main__":
    sys.exit(main(DevelopmentSession))
