"""The command line: a table of commands, lazily imported, and one place that turns errors into lines and exit codes.

Exit codes: 0 fine · 1 the answer is no (a mismatch, a failed self-test), or flashing failed · 2 refused (bad input,
missing board: the line says what to do) · 130 Ctrl-C.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Any

import typer
import typer.core

from midgehost.errors import HostError, MidgeError

# name -> module below midgehost.cli that defines `command` (a plain function) or `app` (a Typer with sub-commands)
COMMANDS: dict[str, str] = {
    "convert": "convert",
    "inspect": "inspect",
    "time": "time",
    "verify": "verify",
    "detect": "detect",
    "init": "init",
    "deploy": "deploy",
    "remove": "remove",
    "adopt": "adopt",
    "keys": "keys",
    "backup": "backup",
    "restore": "restore",
    "upgrade": "upgrade",
    "monitor": "monitor",
    "devices": "devices",
    "doctor": "doctor",
    "board": "board",
    "boards": "boards",
    "firmware": "firmware",
    "flash": "flash",
    "demo": "demo",
}


class LazyGroup(typer.core.TyperGroup):
    """Imports a command's module only when that command runs (or when help lists them all)."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        module_name = COMMANDS.get(cmd_name)
        if module_name is None:
            return None
        module = importlib.import_module(f"midgehost.cli.{module_name}")
        sub: typer.Typer | None = getattr(module, "app", None)
        if sub is None:
            sub = typer.Typer(add_completion=False)
            sub.command(name=cmd_name)(module.command)
        found = typer.main.get_command(sub)
        found.name = cmd_name
        return found


app = typer.Typer(cls=LazyGroup, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def root() -> None:
    """Machine learning on boards that run stock MicroPython. A model goes in; alerts come out."""


def run(argv: Sequence[str]) -> int:
    """Runs one command line, returns its exit code. A MidgeError becomes one line on stderr (and a JSON object)."""
    _register_ports()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that is not UTF-8
    try:
        result = typer.main.get_command(app).main(args=list(argv), prog_name="midge", standalone_mode=False)
    except MidgeError as error:
        return _refuse(error, argv)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stdout = None  # nor could the interpreter flush it at its end
        return 0
    except OSError as error:
        return _refuse(HostError(error), argv)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return _usage_error(error)
    return result if isinstance(result, int) else 0


def _refuse(error: MidgeError, argv: Sequence[str]) -> int:
    if "--json" in argv:
        print(json.dumps({"error": error.as_dict()}))
    print(f"midge: {' '.join(str(error).split())} [{error.code}]", file=sys.stderr)
    return error.exit_code


def _register_ports() -> None:
    """Fills the registry of ports with the virtual ones; boards start only when one is opened."""
    from midgehost import virtual

    virtual.register()


def _usage_error(error: Exception) -> int:
    """Typer's own errors (unknown option, missing argument, Ctrl-C at a prompt); anything else is a bug: raised."""
    if type(error).__name__ == "Abort":
        return 130
    show = getattr(error, "show", None)
    if show is None:
        raise error
    show()
    return int(getattr(error, "exit_code", 2))
