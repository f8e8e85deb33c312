"""The command line: `moespec verify | report | standing | vectors | trace | backends | ops | models | cost | cluster`, a module each or a few."""

from __future__ import annotations

import argparse
import sys

from moespec import __version__
from moespec.cli import _cluster, _cost, _models, _ops, _trace, _vectors, _verify


def main(argv=None) -> int:
    """Run one command; the exit status is 0 only if it found nothing wrong."""
    options = _parser().parse_args(argv)
    try:
        return options.run(options)
    except BrokenPipeError:
        return 1
    except (ValueError, KeyError, TypeError, OSError, ImportError, RuntimeError) as error:
        print(f"moespec: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 2


def _parser():
    parser = argparse.ArgumentParser(prog="moespec", description="The specification of Mixture-of-Experts layers, as code.")
    parser.add_argument("--version", action="version", version=f"moespec {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (_verify, _vectors, _trace, _ops, _models, _cost, _cluster):
        command.add_to(commands)
    return parser
