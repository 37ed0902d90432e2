"""What the programs share: flags in, one line out where something is wrong with them."""

import io
import os
import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from kunlun_jax import interrupts
from kunlun_jax.compilation_cache import use_compilation_cache

flags.disclaim_key_flags()  # a flag defined here belongs to the program that asks for it

CONFIGS = pathlib.Path(__file__).parent / "configs"
STUDIES = CONFIGS / "scaling"


def run_program(
    main: Callable[[list[str]], Any],
    parser: Callable[[list[str]], list[str]],
    *,
    quiet: bool = False,
) -> None:
    """Run a program: what it prints can be printed, Ctrl-C ends it in one line, compilations stay.

    Where nobody reads on, as behind `| head`, it ends in one line too.

    Args:
        main: Takes the arguments that are no flags, after the name of the program.
        parser: `parse_flags`, with what it needs.
        quiet: Whether to silence absl's log: checkpoints are talkative, and what goes wrong with
            them is raised, and said in one line.

    Raises:
        SystemExit: When it is done.
    """
    interrupts.end_in_order()
    if quiet:
        logging.set_verbosity(logging.FATAL)
    use_compilation_cache()
    for stream in (sys.stdout, sys.stderr):  # names and paths go beyond ASCII; a terminal may not
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            app.run(lambda argv: _in_one_line(main, argv), flags_parser=parser)
        finally:
            sys.stdout.flush()  # not at exit, where Python would print what it cannot raise
    except BrokenPipeError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(one_line(error))


def _in_one_line(main: Callable[[list[str]], Any], argv: list[str]) -> Any:
    """Run `main`; a wrong use is one line, where absl would print all of its help."""
    try:
        return main(argv)
    except app.UsageError as error:
        sys.exit(one_line(error))


def parse_flags(argv: list[str], config: flags.FlagHolder[Any] | None = None) -> list[str]:
    """Parse the flags; whatever is wrong with them or with the config file is one line.

    Args:
        argv: The command line.
        config: The flag that names the config file, of a program that has one and takes nothing
            but flags.

    Returns:
        The arguments that are no flags, after the name of the program.

    Raises:
        SystemExit: With that line; without one after --help.
    """
    if {"--help", "-help", "-h", "--helpshort"} & set(argv[1:]):
        app.usage(shorthelp=True, writeto_stdout=True)
        sys.exit(0)
    try:
        arguments = flags.FLAGS(argv)
        if config is not None:
            if config.value is None:
                raise flags.Error(f"expected --{config.name}=FILE, got none")
            config.value.to_dict()  # raises if the file could not be read
            if len(arguments) > 1:
                raise flags.Error(f"expected flags only, got {arguments[1]!r}")
        return arguments
    except (flags.Error, LookupError, TypeError, ValueError, AttributeError, OSError) as error:
        sys.exit(one_line(error))
    except Exception as error:  # a config file is a program, and raises whatever it likes
        name = "" if config is None else f"--{config.name}: "
        sys.exit(one_line(flags.Error(f"{name}{type(error).__name__}: {error}")))


def define_config(name: str, meaning: str, ready: pathlib.Path = CONFIGS) -> flags.FlagHolder[Any]:
    """Define a flag that takes a config file: a path, or the name of a ready one.

    Args:
        name: Name of the flag.
        meaning: Its help.
        ready: Directory of the ready ones.
    """
    holder = config_flags.DEFINE_config_file(name, None, meaning)
    flag = flags.FLAGS[name]
    flag.parser = _ReadyOrFile(name, flag.parser, ready)
    return holder


def config_file(text: str, ready: pathlib.Path = CONFIGS) -> pathlib.Path:
    """Return the file that a path or a name stands for, without what follows a colon.

    Args:
        text: Value of the flag: `configs/base.py`, `base`, `own_data:datasets/shop`.
        ready: Directory of the ready ones.

    Raises:
        flags.Error: If it is neither a file nor a name.
    """
    name = text.split(":", 1)[0]
    file = ready / f"{name}.py"
    if not re.fullmatch(r"\w+", name) or pathlib.Path(name).is_file():
        return pathlib.Path(name)
    if not file.is_file():
        names = sorted(path.stem for path in ready.glob("*.py") if path.stem != "__init__")
        raise flags.Error(
            f"no config {name!r:.60}: expected a path that ends in .py, or one of "
            f"{', '.join(names)}"
        )
    return file


class _ReadyOrFile(flags.ArgumentParser):
    """Reads a config file as ml_collections' parser does, ready ones by name."""

    def __init__(self, name: str, parser: Any, ready: pathlib.Path) -> None:
        self._name, self._parser, self._ready = name, parser, ready

    def parse(self, argument: str) -> Any:
        _, colon, rest = argument.partition(":")
        try:
            return self._parser.parse(f"{config_file(argument, self._ready)}{colon}{rest}")
        except (TypeError, ValueError) as error:  # its message is a traceback
            raised = error.__context__ or error
            raise flags.Error(
                f"--{self._name}={argument}: {type(raised).__name__}: {raised}"
            ) from error

    def flag_type(self) -> str:
        return self._parser.flag_type()


def one_line(error: Exception) -> str:
    """Return the message of an error; of a wrong key, ml_collections says little but the key."""
    key = next((e for e in (error, *error.args) if isinstance(e, KeyError)), None)
    message = str(error) if key is None else f"unknown config key: {key.args[0]}"
    return f"error: {' '.join(message.split())}"
