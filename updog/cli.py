"""The `updog` command: which commands there are, their common options, and the exit codes.

Catches what the commands raise and says it in one line. Whatever becomes of stdin, stdout and
stderr, no file that is opened later takes their numbers. Each command is a file of its own in
`updog.commands`, loaded when it runs.
"""

import io
import os
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

import click

from signpost.commandline import LazyCommand, SharingGroup, forget_stdout, spare_collections
from signpost.errors import SignpostError
from updog.commands.output import NOTHING_CHANGED, forgive_stderr, print_failure, reason
from updog.errors import Locked, UpdogError
from updog.names import escaped

_EXIT_FAILED: Final = 1
_EXIT_LOCKED: Final = 4
_DEFAULT_CONFIG: Final = Path("/etc/updog.toml")


def _make_options() -> list[click.Option]:
    return [
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path, readable=False),
            default=_DEFAULT_CONFIG,
            envvar="UPDOG_CONFIG",
            show_envvar=True,
            show_default=True,
            help="Configuration file.",
        ),
        click.Option(
            ["--log-format"],
            type=click.Choice(["auto", "human", "json", "journal"]),
            default="auto",
            envvar="UPDOG_LOG_FORMAT",
            show_envvar=True,
            show_default=True,
            help="Who reads the log; auto: journal under systemd, human at a terminal, else json.",
        ),
        click.Option(
            ["--log-level"],
            type=click.Choice(["debug", "info", "warning", "error"]),
            default="info",
            envvar="UPDOG_LOG_LEVEL",
            show_envvar=True,
            show_default=True,
            help="The least that is logged; debug shows tracebacks too.",
        ),
        click.Option(["--json"], is_flag=True, help="Print one JSON document on stdout."),
    ]


class _FetchingCommand(LazyCommand):
    """A command that loads what fetches."""

    def load(self) -> click.Command:
        """Import the command, after what it fetches with."""
        # Here few calls are nested. Deeper down, where its users would load it, the calls by which
        # urllib3's expressions are compiled cross the end of a chunk of the interpreter's stack,
        # and each time one is mapped or unmapped: a tenth of what `updog check-update` takes.
        import updog.metadata  # noqa: F401, PLC0415 -- slow, and other commands need none of it

        return super().load()


def _lazy(module: str, summary: str, *, attribute: str | None = None) -> LazyCommand:
    return LazyCommand(
        module=f"updog.commands.{module}", attribute=attribute or module, summary=summary
    )


def _fetching(module: str, summary: str, *, hidden: bool = False) -> LazyCommand:
    return _FetchingCommand(
        module=f"updog.commands.{module}", attribute=module, summary=summary, hidden=hidden
    )


_COMMANDS: Final = {
    "check-update": _fetching("check_update", "Say whether there is an update for this machine."),
    "update": _fetching("update", "Fetch, install, prove and activate an update."),
    "prepare": _fetching("prepare", "Fetch and verify an update without touching the disk."),
    "update-image": _fetching(
        "update_image", "Install and prove an update, but do not activate it."
    ),
    "update-apply": _fetching("update_apply", "Let the next boot try what was installed."),
    "update-revert": _fetching(
        "update_revert", "Take an activated update back before it is booted."
    ),
    "verify": _lazy("verify", "Read sets back and compare them with what was installed."),
    "status": _lazy("status", "Say what runs, what is staged and what boots next."),
    "explain": _fetching("explain", "Say of every update why it is, or is not, taken, and when."),
    "history": _lazy("history", "Say what happened to this machine."),
    "auto": _fetching("auto", "Update and restart as the settings say: what updog.timer runs."),
    "hold": _lazy("hold", "Hold updates back."),
    "release": _lazy("hold", "Let updates go that are on hold.", attribute="release"),
    "health-check": _lazy("health_check", "Run the health checks of this system."),
    "end-trial": _lazy("end_trial", "End a boot on trial whose time is over."),
    "migrations": _lazy("migrations", "Prove the kept migrations again, without a network."),
    "config": _lazy("config", "Print the settings in force."),
    "whats": _fetching("check_update", "The same as check-update.", hidden=True),
}


class _Updog(SharingGroup):
    """The group, which says every failure of a command in one line."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command, which takes a while and changes nothing.

        Raises:
            UpdogError: it was interrupted, or there is not enough memory.
        """
        try:
            return super().get_command(ctx, cmd_name)
        except (KeyboardInterrupt, MemoryError) as err:
            raise UpdogError(f"{reason(err)}; {NOTHING_CHANGED}") from err

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command to its end, whatever that is."""
        try:
            return super().invoke(ctx)
        except (UpdogError, SignpostError) as err:
            _fail(
                err, str(err), ctx, code=_EXIT_LOCKED if isinstance(err, Locked) else _EXIT_FAILED
            )
        except (OSError, MemoryError, KeyboardInterrupt) as err:
            if isinstance(err, BrokenPipeError):
                forget_stdout()
            text = f"{reason(err)}; `updog status` says what is left"
            _fail(err, text, ctx, code=_EXIT_FAILED)


def _fail(err: BaseException, text: str, ctx: click.Context, *, code: int) -> NoReturn:
    """Tell a failure to whoever reads the log, and to whoever reads the result; and exit."""
    _say(err, text, ctx)
    if ctx.params["json"]:
        with suppress(UpdogError, OSError):
            print_failure(text, code)
    ctx.exit(code)


def _say(err: BaseException, text: str, ctx: click.Context) -> None:
    """Say it in one line, once, after everything if the user wants to debug."""
    from updog.log import LogFormat, log_failure  # noqa: PLC0415 -- slow, and rarely needed

    if ctx.params.get("log_level") == "debug":
        for line in "".join(traceback.format_exception(err)).splitlines():
            click.echo(escaped(line), err=True)
    if not log_failure(text, LogFormat(ctx.params["log_format"])):
        click.echo(f"updog: {escaped(text)}", err=True)


@click.group(
    cls=_Updog,
    make_options=_make_options,
    lazy=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  updog check-update
  updog update --reboot --now
  updog status

Exit codes: 0 done, also when there was nothing to do; 1 failed; 2 usage; 3 check-update found no
update; 4 another run is at work.""",
)
@click.version_option(package_name="ab-updog", prog_name="updog")
def cli(**_shared: object) -> None:
    """Update this machine's inactive partition set from a signed repository."""


def main() -> None:
    """Run the command line and exit."""
    spare_collections()
    _fill_standard_descriptors()
    forgive_stderr()
    _unwind_on_signals()
    try:
        cli()
    except OSError as err:  # help and usage are printed outside of every command
        forget_stdout()
        click.echo(f"updog: {reason(err)}", err=True)
        sys.exit(_EXIT_FAILED)


def _fill_standard_descriptors() -> None:
    """Open nothing where stdin, stdout or stderr is closed, so that no disk is taken for one."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    # Python has no object for what was closed when it started.
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)


def _unwind_on_signals() -> None:
    """Treat the end of the session and `kill` as Ctrl-C, so that what is left is said."""
    signal.signal(signal.SIGTERM, _interrupt)
    for number in (signal.SIGINT, signal.SIGHUP):
        # As nohup(1) makes it, and a shell in the background.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Unwind once; what comes later must not cut the unwinding off."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Not SIG_IGN: Python complains of a signal that came just before.
        signal.signal(number, lambda _signal, _frame: None)
    raise KeyboardInterrupt
