"""How a subcommand of `vr1kit` is declared: its help, its examples, and the function that runs it."""

import argparse
from typing import Any


def add_subcommand(subcommands: Any, name: str, run: Any, summary: str, examples: str) -> argparse.ArgumentParser:
    """A parser with the arguments that all subcommands share; `run` takes what was parsed and returns the exit code."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = subcommands.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + ".", epilog=examples, formatter_class=raw
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(run_subcommand=run)
    return parser
