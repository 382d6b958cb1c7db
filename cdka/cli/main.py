"""``cdka``: parse, dispatch, and turn bad input into one line and exit code 2."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import re
import sys
from importlib import import_module
from typing import Any, NoReturn

from cdka import __version__
from cdka.errors import CdkaError, unknown

COMMANDS = {
    "studio": "open the Studio, the web app",
    "models": "list the models known by name",
    "tasks": "list the tasks known by name",
    "data": "look at your own data as a model would see it",
    "solve": "list the component options that fit a parameter budget",
    "align": "measure how well each option aligns with full fine-tuning",
    "run": "fine-tune once and report the result",
    "sweep": "fine-tune a grid of configurations over several seeds",
    "study": "test one of the paper's claims in one go",
    "try": "ask a fine-tuned model a question, beside its base",
    "runs": "list, show, stop, retry or remove runs",
    "cluster": "show the nodes of a Ray cluster, and what runs where",
    "compare": "compare the finished runs of a sweep",
    "import": "read any LoRA, LoKr, LoHa or CDKA file as a CDKA adapter, exactly",
    "export": "save an adapter in the form that another program loads",
    "add": "add two adapters into one, exactly",
    "export-lora": "save an adapter as an exact standard LoRA",
    "notebook": "copy a notebook that ships with cdka, and open it in Jupyter",
    "help": "explain a command, or a name of the Python library",
    "bench": "measure our ratios on this machine",
}
EXIT_DONE, EXIT_RUN_FAILED, EXIT_BAD_INPUT = 0, 1, 2
_NO_ROOM = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS") if hasattr(errno, name)}


class _Parser(argparse.ArgumentParser):
    """argparse, but a usage error is one line like every other refusal; -1e-3 and -5% are values, not flags."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._negative_number_matcher = re.compile(r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?[%kMGB]*$", re.IGNORECASE)

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if action.option_strings and arg_strings == ["--"]:  # argparse would hand on an empty list
            raise argparse.ArgumentError(action, "a value is expected: got '--'")
        return super()._get_values(action, arg_strings)

    def error(self, message: str) -> NoReturn:
        raise CdkaError(f"{message}. Usage: {self.prog} --help")


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {help_text}" for name, help_text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: cdka COMMAND [options]",
            "",
            "Component designed Kronecker adapters: choose, fine-tune, compare.",
            "",
            *lines,
            "",
            "cdka COMMAND --help explains a command with an example.",
        ]
    )


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help") or argv == ["help"]:
        print(_overview())
        return EXIT_DONE
    if argv[0] in ("-V", "--version"):
        print(f"cdka {__version__}")
        return EXIT_DONE
    name, rest = argv[0], argv[1:]
    if name == "help" and rest[:1] != ["help"] and rest[0] in COMMANDS:
        name, rest = rest[0], ["--help"]
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS, next_step="See: cdka --help")
    command = import_module(f"cdka.cli.{name.replace('-', '_')}")
    parser = _Parser(
        prog=f"cdka {name}",
        description=command.HELP,
        epilog=f"example:\n  {command.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    args = parser.parse_args(rest)
    if (model := getattr(args, "model", None)) and (os.path.sep in model or model.endswith(".gguf")):
        import_module("cdka.cli.progress").convert_model(model)
    return command.run(args) or EXIT_DONE


def _take_any_terminal() -> None:
    """Let no closed or narrow standard stream break a command: nothing is printed where nobody can read it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (lives as long as we do)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _check_text(argv: list[str]) -> None:
    for text in argv:
        if not text.isprintable() and any("\ud800" <= c <= "\udfff" or c == "\0" for c in text):
            raise CdkaError(f"arguments must be UTF-8 text: got {ascii(text)[:80]}. Type it in another way.")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns 0 done, 1 a run failed or was lost, 2 bad input."""
    _take_any_terminal()
    argv = sys.argv[1:] if argv is None else argv
    try:
        _check_text(argv)
        code = _dispatch(argv)
        sys.stdout.flush()  # a failing write is reported here, not in the last moments of the interpreter
        return code
    except CdkaError as error:
        print(f"cdka: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("cdka: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away (cdka ... | head)
        _silence_stdout()
        return EXIT_DONE
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            print(
                "cdka: a file's name has at most 255 bytes: got a longer one. Type a path or a name.", file=sys.stderr
            )
            return EXIT_BAD_INPUT
        if error.errno not in _NO_ROOM:
            raise
        place = f" ({error.filename})" if error.filename else ""
        print(
            f"cdka: there must be room for what is written: {error.strerror}{place}. Free some disk space and try "
            "again, or set CDKA_HOME to another disk.",
            file=sys.stderr,
        )
        _silence_stdout()
        return EXIT_BAD_INPUT


def _silence_stdout() -> None:
    """Let nothing that is still in the buffer fail once more at the end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
