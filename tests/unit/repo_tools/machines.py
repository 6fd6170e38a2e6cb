"""Playground machines under test: the installed commands, and what to do to a disk."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from repo_tools.layout import write_image
from repo_tools.playground.place import Playground
from repo_tools.programs import find_own_command
from signpost.disk import Location, Window, change, read
from signpost.flags import CLEARED
from signpost.sets import SetName


def run(command: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run an installed command to its end."""
    return subprocess.run(
        [find_own_command(command), *arguments],
        check=False,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
    )


def copied(playground: Playground, to: Path) -> Playground:
    """Copy a playground; files that are replaced but never changed in place are linked."""
    changed_in_place = {playground.config, playground.os_release, playground.active_set}

    def copy(source: str, target: str) -> None:
        if Path(source) == playground.disk:
            subprocess.run(["cp", "--sparse=always", source, target], check=True)
        elif Path(source) in changed_in_place:
            shutil.copy(source, target)
        else:
            os.link(source, target)

    shutil.copytree(playground.directory, to, copy_function=copy)
    return Playground(directory=to)


def boot(playground: Playground) -> subprocess.CompletedProcess[str]:
    """Reset the machine by the command of updog.toml, as its agent would: empty environment."""
    command = [*playground.read_config().reboot.command[:-1], str(playground.directory)]
    return subprocess.run(
        command, check=False, env={}, cwd="/", capture_output=True, text=True, timeout=60
    )


def signpost(playground: Playground, command: str) -> dict[str, Any]:
    """Run signpost on the machine's disk and return its facts."""
    where = ("--disk", playground.disk, "--active-file", playground.active_set)
    done = run("signpost", *where, "--json", command)
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def flags(playground: Playground, name: SetName) -> str:
    """Return priority/tries/successful of a set."""
    return str(read(Location(path=playground.disk)).state.flags[name])


def make_unbootable(playground: Playground, name: SetName) -> None:
    """Take a set's chance to boot away."""
    change(Location(path=playground.disk), lambda state: state.with_flags(name, CLEARED))


def window(playground: Playground, name: SetName, role: str) -> Window:
    """Return where a partition lies."""
    disk = read(Location(path=playground.disk))
    return disk.window(getattr(disk.sets[name], role))


def install(playground: Playground, version: str) -> None:
    """Put a built release into set B and let it boot next."""
    directory = playground.releases / version
    for role, image in (("boot", "boot.ext4"), ("root", "root.ext4"), ("hash", "root.verity")):
        write_image(directory / image, window(playground, SetName.B, role))
    signpost(playground, "mark-inactive-valid")
    signpost(playground, "upgrade-to-inactive")


def damage(where: Window, offset: int) -> None:
    """Flip every bit of one byte of a partition."""
    with where.path.open("r+b") as file:
        file.seek(where.offset_bytes + offset)
        byte = file.read(1)[0]
        file.seek(where.offset_bytes + offset)
        file.write(bytes([byte ^ 0xFF]))
