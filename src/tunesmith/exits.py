"""The exit code of the command line, and the last line that it prints: whose fault it was."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import typer

from tunesmith.errors import Interrupted, TunesmithError


def run(command: Any, arguments: list[str]) -> int:
    """0 done; 1 the recipe, the data, the command line or the environment; 2 our bug; 130 Ctrl-C, 75 SIGTERM."""
    if not arguments:
        arguments = ["--help"]
    try:
        code = command.main(arguments, prog_name="tunesmith", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except TunesmithError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted as error:
        print(error, file=sys.stderr)
        return error.code
    except (KeyboardInterrupt, typer.Abort) as stop:
        print("interrupted", file=sys.stderr)
        return int(getattr(stop, "code", 130))
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except typer.Exit as error:
        return error.exit_code
    except Exception as error:
        if hasattr(error, "format_message"):
            print(f"error: {error.format_message()}", file=sys.stderr)
            context = getattr(error, "ctx", None)
            if context is not None:
                print(f"{context.get_usage()}\nTry: {context.command_path} --help", file=sys.stderr)
            return 1
        traceback.print_exc()
        print("this is a bug of tunesmith: please report it with the lines above and the command", file=sys.stderr)
        return 2
