"""Names of the commands for a running server, and how a mistake is told. The first word decides what else is
imported."""

import sys

COMMAND_HELP: dict[str, str] = {
    "reload": "Load the code anew; --wait tells whether it was taken.",
    "reload-certificates": "Read the certificates anew, without a reload.",
    "status": "Show generations, workers and the last reload.",
    "stop": "Stop gracefully; --wait until the process is gone.",
    "scale": "Set the number of workers.",
}


def report(text: str, status: int) -> int:
    """Tell a mistake on standard error; return the exit status given."""
    print(f"asgireload: error: {text}", file=sys.stderr)
    return status
