"""The `signpost` command: options, words and exit codes around `disk` and `state`.

The only module of this package that prints or exits. Imports nothing slow: `signpost status` runs
in health checks and prompts.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps

import click

from signpost import disk, state
from signpost.commandline import (
    SharingGroup,
    forget_stdout,
    is_on_command_line,
    shared_options,
    spare_collections,
)
from signpost.errors import SignpostError
from signpost.flags import BootFlags
from signpost.gpt import Copy, Fault, Mbr
from signpost.sets import BOTTLEROCKET_PRIVATE, PartitionSet, SetName


def _make_options() -> list[click.Option]:
    return [
        click.Option(
            ["--disk"],
            type=click.Path(),
            envvar="SIGNPOST_DISK",
            show_envvar=True,
            help="Disk or image file to work on.  [default: the disk under /]",
        ),
        click.Option(
            ["--active"],
            type=click.Choice(["A", "B"]),
            envvar="SIGNPOST_ACTIVE",
            show_envvar=True,
            help="The set that is running, where it cannot be found out.",
        ),
        click.Option(
            ["--active-file"],
            type=click.Path(),
            envvar="SIGNPOST_ACTIVE_FILE",
            show_envvar=True,
            help="File that holds A or B, left by whatever booted the machine.",
        ),
        click.Option(["--json"], is_flag=True, help="Print one JSON document."),
    ]


def _location() -> disk.Location:
    options = shared_options()
    told = {name: options[name] for name in _what_runs()}
    active = SetName(told["active"]) if "active" in told else None
    return disk.find_location(options["disk"], active, told.get("active_file"))


def _what_runs() -> list[str]:
    """Return the option that says which set runs; a typed one is stronger than the environment."""
    named = [name for name in ("active", "active_file") if shared_options()[name]]
    if len(named) > 1:
        typed = [name for name in named if is_on_command_line(name)]
        if len(typed) != 1:
            raise click.UsageError(
                "--active (SIGNPOST_ACTIVE) and --active-file (SIGNPOST_ACTIVE_FILE) both say "
                "which set is running; keep one"
            )
        return typed
    return named


def _as_json() -> bool:
    return bool(shared_options()["json"])


@click.group(
    cls=SharingGroup,
    make_options=_make_options,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  signpost status
  signpost rollback-to-inactive
  signpost --disk os.img --active A status --json

Exit codes: 0 done; 1 failed, nothing was changed unless the message says so; 2 usage.""",
)
@click.version_option(
    package_name="ab-updog",
    prog_name="signpost",
    message="%(prog)s, version %(version)s",
    help="Show the version and exit.",
)
def cli(**_shared: object) -> None:
    """Show and change which partition set boots next.

    The flags live in the GPT attributes of the BOOT partitions. Every change is written so that a
    power cut at any moment leaves the old state or the new one.
    """


def _command(*, name: str, example: str) -> Callable[[Callable[[], None]], click.Command]:
    """Register a command, its docstring's first line as the short help."""

    def register(run: Callable[[], None]) -> click.Command:
        summary, _, _ = (run.__doc__ or "").partition("\n")
        decorate = cli.command(name, short_help=summary, epilog=f"\b\nExample:\n  {example}")
        return decorate(_interruptible(run))

    return register


def _interruptible(run: Callable[[], None]) -> Callable[[], None]:
    @wraps(run)
    def interruptible() -> None:
        try:
            run()
        except KeyboardInterrupt as err:
            raise SignpostError(
                "interrupted. The table is whole, with either the old flags or the new ones; "
                "`signpost status` shows which"
            ) from err

    return interruptible


@_command(name="status", example="signpost status")
def status() -> None:
    """Print both sets, which one is running and which one boots next."""
    location = _location()
    found = disk.read(location)
    if _as_json():
        _print_json(_facts(found))
    else:
        click.echo("\n".join([*_status_lines(found), *_repair_notes(found, location)]))


@_command(name="mark-successful-boot", example="signpost mark-successful-boot")
def mark_successful_boot() -> None:
    """Mark the running set as good: its health checks have passed."""
    _apply(state.mark_successful_boot, marks_success=True)


@_command(name="clear-inactive", example="signpost clear-inactive")
def clear_inactive() -> None:
    """Make the inactive set unbootable, before its partitions are written."""
    _apply(state.clear_inactive)


@_command(name="mark-inactive-valid", example="signpost mark-inactive-valid")
def mark_inactive_valid() -> None:
    """Give the inactive set one try: it holds a whole system."""
    _apply(state.mark_inactive_valid)


@_command(name="upgrade-to-inactive", example="signpost upgrade-to-inactive && systemctl reboot")
def upgrade_to_inactive() -> None:
    """Boot the freshly written inactive set next, with the running one to fall back to."""
    _apply(state.upgrade_to_inactive)


@_command(name="cancel-upgrade", example="signpost cancel-upgrade")
def cancel_upgrade() -> None:
    """Let the running set boot next: take back an upgrade or rollback not yet booted."""
    _apply(state.cancel_upgrade)


@_command(name="rollback-to-inactive", example="signpost rollback-to-inactive && systemctl reboot")
def rollback_to_inactive() -> None:
    """Boot the system that the inactive set already holds."""
    _apply(state.rollback_to_inactive)


@_command(
    name="has-boot-ever-succeeded",
    example='[ "$(signpost has-boot-ever-succeeded)" = true ] || first-boot-setup',
)
def has_boot_ever_succeeded() -> None:
    """Print `true` if any boot of this machine was ever marked successful, else nothing."""
    found = disk.read(_location())
    succeeded, unkept = found.state.ever_succeeded, _unkept_success(found)
    if _as_json():
        _print_json({"has_boot_ever_succeeded": succeeded, "warnings": unkept})
        return
    _print_to_stderr(unkept)
    if succeeded:
        click.echo("true")


@_command(name="rewrite-table", example="signpost rewrite-table")
def rewrite_table() -> None:
    """Write both copies of the partition table anew, repairing whichever is bad."""
    _apply(lambda unchanged: unchanged, rewrite=True)


@_command(name="select-boot", example="signpost --disk /dev/vda select-boot --json")
def select_boot() -> None:
    """Do what a boot loader does: pick the next set, spend its try, print what to boot.

    For boot loaders and simulations. Fails, and changes nothing, when no set can boot.
    """
    location = _location()
    changed = disk.change(location, state.select_boot)
    chosen = state.next_set(changed.before.state)
    if chosen is None:
        raise AssertionError("select_boot returned without a set")
    with _telling_of(changed):
        _print_chosen(changed, chosen)


def _print_chosen(changed: disk.Change, chosen: SetName) -> None:
    found = changed.after.sets[chosen]
    if _as_json():
        partitions = disk.describe(found, changed.after)
        facts = {"set": str(chosen), **_flag_facts(changed.after.state.flags[chosen]), **partitions}
        _print_json({**facts, "repaired": list(changed.repaired)})
    else:
        _print_repairs(changed)
        numbers = ", ".join(str(p.number) for p in found.partitions)
        flags = changed.after.state.flags[chosen]
        click.echo(f"boot set {chosen} (partitions {numbers}), {_tries(flags)} left")


@contextmanager
def _telling_of(changed: disk.Change) -> Iterator[None]:
    """Print the result of a change; where that fails, say that the change stands all the same."""
    try:
        yield
    except OSError as err:
        forget_stdout()
        done = "the change was made" if changed.steps else "nothing had to be changed"
        raise SignpostError(f"{done}, but the result cannot be printed: {err.strerror}") from err


def _apply(
    transition: disk.Transition, *, rewrite: bool = False, marks_success: bool = False
) -> None:
    changed = disk.change(_location(), transition, rewrite=rewrite)
    unkept = _unkept_success(changed.after) if marks_success else []
    with _telling_of(changed):
        if _as_json():
            _print_json({**_change_facts(changed), "warnings": unkept + _warnings(changed.after)})
        else:
            _print_to_stderr(unkept)
            _print_change(changed, rewrite=rewrite)


def _unkept_success(found: disk.BootDisk) -> list[str]:
    """Warn where the disk has no place for the mark that outlives both sets."""
    if found.sets.private is not None:
        return []
    warning = (
        f"{found.path} has no PRIVATE partition (type {BOTTLEROCKET_PRIVATE}) to keep that a boot "
        "of this machine succeeded: `signpost has-boot-ever-succeeded` will never print `true`"
    )
    return [warning]


def _print_to_stderr(warnings: list[str]) -> None:
    for warning in warnings:
        click.echo(f"signpost: {warning}", err=True)


def _change_facts(changed: disk.Change) -> dict[str, object]:
    return {
        "before": _facts(changed.before),
        "after": _facts(changed.after),
        "repaired": list(changed.repaired),
        "written": bool(changed.steps),
    }


def _print_change(changed: disk.Change, *, rewrite: bool) -> None:
    _print_repairs(changed)
    for name, flags in changed.after.state.flags.items():
        old = changed.before.state.flags[name]
        if flags != old:
            click.echo(f"set {name}: {_words(old)} -> {_words(flags)}")
    if changed.after.state.ever_succeeded and not changed.before.state.ever_succeeded:
        click.echo("this machine: marked for good as having booted successfully")
    if rewrite:
        click.echo(f"both copies of the partition table of {changed.after.path} written anew")
    elif not changed.steps:
        click.echo("nothing to change: the flags already are as wanted")
    following = state.next_set(changed.after.state)
    click.echo(f"next boot: {f'set {following}' if following else 'NONE, no set can boot'}")
    for warning in _warnings(changed.after):
        click.echo(warning)


def _print_repairs(changed: disk.Change) -> None:
    _print_to_stderr([f"repaired the partition table: {fault}" for fault in changed.repaired])


def _words(flags: BootFlags) -> str:
    mark = "successful" if flags.successful else "not successful"
    return f"priority {flags.priority}, {_tries(flags)}, {mark}"


def _tries(flags: BootFlags) -> str:
    return "1 try" if flags.tries == 1 else f"{flags.tries} tries"


def _facts(found: disk.BootDisk) -> dict[str, object]:
    table = found.table
    return {
        "disk": str(found.path),
        "sector_size": table.sector_size,
        "table": {
            "mbr": str(table.mbr),
            "primary": _copy_fact(table.primary),
            "backup": _copy_fact(table.backup),
            "faults": list(table.faults),
            "commits_at_once": found.commits_at_once,
        },
        "active": found.state.active,
        "next": state.next_set(found.state),
        "has_boot_ever_succeeded": found.state.ever_succeeded,
        "sets": {
            str(one.name): {
                **disk.describe(one, found),
                **_flag_facts(found.state.flags[one.name]),
            }
            for one in found.sets.present()
        },
    }


def _copy_fact(copy: Copy | Fault) -> str:
    return copy.reason if isinstance(copy, Fault) else "good"


def _flag_facts(flags: BootFlags) -> dict[str, object]:
    return {
        "priority": flags.priority,
        "tries": flags.tries,
        "successful": flags.successful,
        "bootable": flags.will_boot,
    }


def _status_lines(found: disk.BootDisk) -> list[str]:
    header = ("  set", "boot", "root", "hash", "priority", "tries", "successful", "boots")
    rows = [header, *(_status_row(found, one) for one in found.sets.present())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    aligned = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [
        f"OS disk: {found.path}  (GPT: {_table_words(found)})",
        *aligned,
        *_notes(found),
    ]


def _status_row(found: disk.BootDisk, one: PartitionSet) -> tuple[str, ...]:
    flags = found.state.flags[one.name]
    running = "*" if found.state.active is one.name else " "
    return (
        f"  {one.name} {running}",
        *(_partition_word(found, p.number) for p in one.partitions),
        str(flags.priority),
        str(flags.tries),
        "yes" if flags.successful else "no",
        _boots(found, one.name),
    )


def _partition_word(found: disk.BootDisk, number: int) -> str:
    if not found.is_device:
        return str(number)
    disk_node = os.path.realpath(found.path)  # links such as /dev/disk/by-id have other names
    separator = "p" if disk_node[-1].isdigit() else ""
    return f"{disk_node}{separator}{number}"


def _boots(found: disk.BootDisk, name: SetName) -> str:
    if state.next_set(found.state) is name:
        return "next"
    return "yes" if found.state.flags[name].will_boot else "no"


def _table_words(found: disk.BootDisk) -> str:
    words = "; ".join(found.table.faults) or "both copies good"
    mbr = found.table.mbr
    return words if mbr == "protective" else f"{words}; {mbr} MBR"


_IN_PLACE = (
    "No safe room for a second entry array, so changes are written in place: a cut\n"
    "may leave the backup alone valid, which Linux ignores unless booted with `gpt`."
)


def _notes(found: disk.BootDisk) -> list[str]:
    notes = ["* running"] if found.state.active else ["It is not known which set is running."]
    notes += _warnings(found)
    return notes if found.commits_at_once else [*notes, _IN_PLACE]


def _repair_notes(found: disk.BootDisk, location: disk.Location) -> list[str]:
    """Say what mends the table: a command of ours only where it would not refuse."""
    is_protected = found.table.mbr is Mbr.PROTECTIVE
    if is_protected and not found.table.faults:
        return []
    if obstacle := disk.why_not_writable(location):
        return [f"No command can change the flags: {obstacle}."]
    return ["`signpost rewrite-table` repairs the partition table."]


def _warnings(found: disk.BootDisk) -> list[str]:
    """Say what keeps the running set, or any, from booting again, and what leads out of it."""
    active = found.state.active
    is_lost = active is not None and found.state.flags[active].priority == 0
    if state.next_set(found.state) is None:
        warning = "WARNING: no set can boot. Do not reboot"
    elif is_lost:
        warning = f"WARNING: the running set {active} has priority 0 and will not boot again"
    else:
        return []
    if active is None:
        return [f"{warning}; `signpost status --active A` or `B`, whichever runs, says what to do."]
    commands = [] if found.state.flags[active].successful else ["`signpost mark-successful-boot`"]
    if is_lost:
        commands.append(_raise_priority(found, active))
    return [f"{warning}; if the running system is good: {', then '.join(commands)}."]


def _raise_priority(found: disk.BootDisk, active: SetName) -> str:
    if found.sets.b is not None:
        return "`signpost cancel-upgrade`"
    # No command of signpost's own raises a priority where there is one set only.
    return f"`sgdisk --attributes={found.sets[active].boot.number}:set:48 {found.path}`"


def _print_json(facts: dict[str, object]) -> None:
    import json  # noqa: PLC0415 -- a seventh of the time that `signpost status` takes without it

    click.echo(json.dumps(facts, indent=2))


def main() -> None:
    """Run the command line and exit."""
    spare_collections()
    try:
        cli()
    except SignpostError as err:
        click.echo(f"signpost: {err}", err=True)
        sys.exit(1)
    except OSError as err:
        forget_stdout()
        click.echo(f"signpost: cannot print the result: {err.strerror}", err=True)
        sys.exit(1)
