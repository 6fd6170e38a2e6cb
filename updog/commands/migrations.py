"""`updog migrations verify`: the kept migrations, proven again without a network."""

from pathlib import Path
from typing import Any

import click
from semver import Version

from updog.commands.output import print_json, print_result, wants_json
from updog.commands.settings import command, read_guarded_config, read_trusted_root
from updog.errors import UpdogError
from updog.host import read_host
from updog.kept_migrations import KeptMigrations, Verdict, verify
from updog.names import printable


@command("migrations", example="updog migrations verify")
@click.argument("action", type=click.Choice(["verify"]))
def migrations(*, action: str) -> None:
    """Prove the migrations that are kept for the reboot.

    Needs no network, and takes metadata that has expired since. Prints each migration in the order
    of running; exits with 1 if one is missing, changed or not listed, and must not be run, or if
    they lead neither from nor to the version that runs.
    """
    del action  # there is one
    config = read_guarded_config()
    directory = config.paths.migrations
    kept = verify(read_trusted_root(config), directory)
    if wants_json():
        print_json(_facts(kept))
    elif kept is None:
        print_result(f"No migrations are kept in {directory}.")
    else:
        print_result("\n".join(_lines(kept)))
    if kept is not None and kept.unproven:
        raise UpdogError(
            f"{', '.join(map(printable, kept.unproven))}: not proven, do not run any of the "
            f"migrations in {directory}; before the reboot, `updog update` fetches them anew"
        )
    if kept is not None:
        _require_fit(kept, read_host(config.paths.os_release).version, directory)


def _require_fit(kept: KeptMigrations, running: Version, directory: Path) -> None:
    """Refuse migrations between two other versions: nobody signed which two are needed."""
    if running not in {kept.running, kept.goal}:
        raise UpdogError(
            f"the migrations in {directory} lead from {kept.running} to {kept.goal}, but {running} "
            "runs here: do not run any of them; the next update replaces or removes them"
        )


def _lines(kept: KeptMigrations) -> list[str]:
    count = f"{len(kept.verdicts)} kept" if kept.verdicts else "none are needed"
    width = max((len(printable(each.name)) for each in kept.verdicts), default=0)
    return [
        f"Migrations {kept.running} -> {kept.goal}: {count}",
        *(_line(each, width) for each in kept.verdicts),
    ]


def _line(verdict: Verdict, width: int) -> str:
    fault = verdict.fault
    return f"  {printable(verdict.name):<{width}}  {'ok, as signed' if fault is None else fault}"


def _facts(kept: KeptMigrations | None) -> dict[str, Any] | None:
    if kept is None:
        return None
    return {
        "from": str(kept.running),
        "to": str(kept.goal),
        "proven": not kept.unproven,
        "migrations": [{"name": each.name, "fault": each.fault} for each in kept.verdicts],
    }
