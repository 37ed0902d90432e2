"""What the programs share: flags in, one line out where something is wrong with them."""

import sys
from typing import Any

from absl import flags


def parse_flags(argv: list[str], config: flags.FlagHolder[Any]) -> list[str]:
    """Parse the flags; whatever is wrong with them or with the config file is one line.

    Args:
        argv: The command line.
        config: The flag that names the config file.

    Raises:
        SystemExit: With that line.
    """
    try:
        arguments = flags.FLAGS(argv)
        if config.value is None:
            raise flags.Error(f"expected --{config.name}=FILE, got none")
        config.value.to_dict()  # raises if the file could not be read
        if len(arguments) > 1:
            raise flags.Error(f"expected flags only, got {arguments[1]!r}")
        return arguments
    except (flags.Error, LookupError, TypeError, ValueError, AttributeError, OSError) as error:
        sys.exit(one_line(error))
    except Exception as error:  # a config file is a program, and raises whatever it likes
        sys.exit(one_line(flags.Error(f"--{config.name}: {type(error).__name__}: {error}")))


def one_line(error: Exception) -> str:
    """Return the message of an error; of a wrong key, ml_collections says little but the key."""
    key = next((e for e in (error, *error.args) if isinstance(e, KeyError)), None)
    message = str(error) if key is None else f"unknown config key: {key.args[0]}"
    return f"error: {' '.join(message.split())}"
