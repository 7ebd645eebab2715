"""How a subcommand of `vr1kit` is declared."""

import argparse
import json
from typing import Any


def add_subcommand(subcommands: Any, name: str, run: Any, summary: str, examples: str) -> argparse.ArgumentParser:
    """Declare a subcommand: its parser, with the examples as they stand. `run` takes the arguments and returns the exit code."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = subcommands.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + ".", epilog=examples, formatter_class=raw
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(run_subcommand=run)
    return parser


def parse_value(text: str) -> Any:
    """JSON if it is JSON (1e-6, true, [1, 2]) that Python reads, else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
