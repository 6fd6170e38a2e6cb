"""What the command lines of this project have in common, and click does not bring.

A group's own options may also stand after a command's name, as people type them; the later one
wins. Commands may be named by where they are defined and loaded only when they run, so that a short
command does not pay for what a long one imports. Knows nothing of what options or commands mean.
"""

import atexit
import gc
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import click
from click.core import ParameterSource

_OBJECTS_BETWEEN_COLLECTIONS = 100_000
"""Loading modules makes as many, none of them garbage."""

MakeOptions = Callable[[], Sequence[click.Option]]


def spare_collections() -> None:
    """Look for garbage seldom, and not when the process ends.

    For short commands: Python would go through every object several times while modules are loaded
    and once more at the end, a tenth of the time that a command takes.
    """
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    atexit.register(gc.freeze)


class LazyCommand(NamedTuple):
    """A command that is loaded when it runs: where it is, and its line in the group's help."""

    module: str
    attribute: str
    summary: str
    hidden: bool = False

    def load(self) -> click.Command:
        """Import the command."""
        command: click.Command = getattr(importlib.import_module(self.module), self.attribute)
        return command


class SharingGroup(click.Group):
    """A group whose own options every one of its commands takes too."""

    def __init__(
        self,
        *args: Any,
        make_options: MakeOptions,
        lazy: Mapping[str, LazyCommand] | None = None,
        **kwargs: Any,
    ) -> None:
        """Take `make_options`, which returns new option objects at each call, and lazy commands."""
        super().__init__(*args, **kwargs)
        self._make_options = make_options
        self._lazy = dict(lazy or {})
        self.params.extend(make_options())

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in alphabetical order."""
        return sorted({*super().list_commands(ctx), *self._lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, loaded if need be and with the shared options."""
        lazy = self._lazy.get(cmd_name)
        command = lazy.load() if lazy is not None else super().get_command(ctx, cmd_name)
        if command is not None:
            self._share(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands in the help without loading the lazy ones."""
        if not self._lazy:
            super().format_commands(ctx, formatter)
            return
        loaded = {name: one.get_short_help_str(60) for name, one in self.commands.items()}
        lazy = {name: one.summary for name, one in self._lazy.items() if not one.hidden}
        rows = list((lazy | loaded).items())
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def _share(self, command: click.Command) -> None:
        taken = {option for param in command.params for option in param.opts}
        for option in self._make_options():
            if not taken.intersection(option.opts):
                command.params.append(_repeating(option))


def _repeating(option: click.Option) -> click.Option:
    """Turn an option into one that overrides what was said before the command's name."""
    option.expose_value = False
    option.envvar = None
    option.callback = _override
    return option


def _override(context: click.Context, param: click.Parameter, value: object) -> None:
    name = param.name
    if name and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
        root = context.find_root()
        root.params[name] = value
        root.set_parameter_source(name, ParameterSource.COMMANDLINE)


def shared_options() -> dict[str, Any]:
    """Return the group's options as the running command sees them."""
    return click.get_current_context().find_root().params


def is_on_command_line(name: str) -> bool:
    """Whether one of the group's options was typed, before or after the command's name."""
    root = click.get_current_context().find_root()
    return root.get_parameter_source(name) is ParameterSource.COMMANDLINE


def forget_stdout() -> None:
    """Send what is still to be printed to nowhere, else the interpreter fails on it at its end."""
    descriptor = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(descriptor, 1)
    os.close(descriptor)
    sys.stdout.flush()
