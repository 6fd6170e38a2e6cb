"""The simulated machine: what firmware, boot loader, kernel and health checks do after a reset.

Decides as they would: the boot loader's rule is applied and a try spent by `signpost select-boot`;
a set whose root does not match the root digest in its boot image panics, which is one more reset;
the release is read from the booted set's own files; its own health checks decide whether
`signpost mark-successful-boot` is called. What is not simulated: the disk, the flags, the trees.

Everything that happens is yielded as an event, in order, as it happens.
"""

import json
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

from msgspec.structs import replace
from semver import Version

from repo_tools import ext4, filesystems, vouching
from repo_tools.durable import write_durably
from repo_tools.errors import CommandLineError, FileSystemError, RepoToolsError, VouchingError
from repo_tools.playground.place import Playground
from repo_tools.playground.system import HEALTH_DIRECTORIES, OS_RELEASE
from repo_tools.programs import find_own_command, run_program
from signpost.disk import Window
from signpost.sets import SetName
from updog.checks import Check, find_checks, run_checks
from updog.errors import ConfigError, ImageError, PartitionError
from updog.health import Checked, HealthRecord, failures
from updog.health_file import write_health
from updog.host import read_host

_MOST_RESETS: Final = 4
"""After so many panics in a row the simulation stops; a real machine would go on for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """The boot loader chose a set and spent a try if it had one."""

    set: SetName
    tries_left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Panicked:
    """The set could not be entered; the machine resets."""

    set: SetName
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """Every block of the root is the one that the boot image vouches for."""

    set: SetName
    blocks: int
    root_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The system of the set runs."""

    set: SetName
    variant: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """All checks passed: the set is marked successful."""

    set: SetName


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftUnmarked:
    """A check failed: the set gets no success mark. `next` boots after the next reset."""

    set: SetName
    failed: tuple[str, ...]
    next: SetName | None


Event: TypeAlias = Selected | Panicked | Verified | Started | Checked | Marked | LeftUnmarked


_PANICS: Final = (
    *(FileSystemError, CommandLineError, VouchingError),
    *(ImageError, PartitionError, ConfigError),
)
"""What a set can be guilty of; anything else is a fault of the simulation."""


def reset(playground: Playground) -> Iterator[Event]:
    """Reset the machine and let it boot.

    Yields:
        What happens, ending with `Marked` or `LeftUnmarked`.

    Raises:
        RepoToolsError: no set boots; the machine is off then.
    """
    if playground.run.exists():
        shutil.rmtree(playground.run)
    playground.run.mkdir()
    ext4.require_tools()  # a missing tool must not pass for a broken image, nor cost a try
    panic = None
    for _ in range(_MOST_RESETS):
        chosen = _select(playground)
        yield Selected(set=chosen.name, tries_left=chosen.tries_left)
        try:
            yield _verify(chosen)
            started = _start(playground, chosen)
            checks = health_checks(playground.running_root)
        except _PANICS as error:
            panic = Panicked(set=chosen.name, reason=str(error))
            yield panic
            continue
        yield started
        yield from _judge_health(playground, started, checks)
        return
    reason = f": set {panic.set}: {panic.reason}" if panic else ""
    raise RepoToolsError(
        f"the machine does not boot: {_MOST_RESETS} resets in a row ended in a panic{reason}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """The set that the boot loader chose, and its partitions on the disk."""

    name: SetName
    tries_left: int
    boot: Window
    root: Window
    hash: Window


def _select(playground: Playground) -> _Chosen:
    try:
        facts = _signpost(playground, "select-boot")
    except RepoToolsError as error:
        raise RepoToolsError(f"the machine does not boot: {error}") from error
    return _Chosen(
        name=SetName(facts["set"]),
        tries_left=facts["tries"],
        boot=_window(facts["boot"]),
        root=_window(facts["root"]),
        hash=_window(facts["hash"]),
    )


def _window(facts: dict[str, Any]) -> Window:
    return Window(
        path=Path(facts["path"]),
        offset_bytes=facts["offset_bytes"],
        length_bytes=facts["length_bytes"],
    )


def _signpost(playground: Playground, command: str, *options: str | Path) -> dict[str, Any]:
    """Run the installed signpost on the playground's disk and return what it prints."""
    done = run_program(
        find_own_command("signpost"), "--disk", playground.disk, "--json", *options, command
    )
    if done.returncode != 0:
        raise RepoToolsError(done.stderr.strip() or f"signpost {command} failed silently")
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def _verify(chosen: _Chosen) -> Verified:
    """Do at once what dm-verity does block by block: check the whole root against its tree."""
    table = vouching.verify(boot=chosen.boot, root=chosen.root, hash_image=chosen.hash)
    return Verified(set=chosen.name, blocks=table.data_blocks, root_digest=table.root_digest.hex())


def _start(playground: Playground, chosen: _Chosen) -> Started:
    """Enter the verified root: its files become the running system's."""
    root = playground.running_root
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    filesystems.extract_tree(chosen.root, root)
    os_release = inside(root, root / OS_RELEASE)
    host = read_host(os_release)
    write_durably(playground.os_release, os_release.read_bytes())
    write_durably(playground.boot_id, f"{uuid.uuid4()}\n".encode())
    write_durably(playground.active_set, f"{chosen.name}\n".encode())
    return Started(set=chosen.name, variant=host.variant, version=str(host.version))


def inside(root: Path, path: Path) -> Path:
    """Follow the links of an image, which may lead to the host's files, but not there.

    Raises:
        FileSystemError: the path leads out of the image.
    """
    try:
        followed = path.resolve()
    except (OSError, RuntimeError) as error:
        raise FileSystemError(f"{path.relative_to(root)} in the root leads nowhere") from error
    if not followed.is_relative_to(root.resolve()):
        raise FileSystemError(f"{path.relative_to(root)} in the root leads out of the image")
    return followed


def health_checks(root: Path) -> list[Check]:
    """Return the health checks of an image's files, in order.

    Raises:
        FileSystemError: one of them is not the image's own.
    """
    found = find_checks([inside(root, root / directory) for directory in HEALTH_DIRECTORIES])
    return [replace(check, path=inside(root, check.path)) for check in found]


def _judge_health(playground: Playground, started: Started, checks: list[Check]) -> Iterator[Event]:
    """Run the checks as `updog health-check` does, and leave the same record of them."""
    config = playground.read_config()
    record = HealthRecord(
        time=datetime.now(UTC),
        version=Version.parse(started.version),
        set=started.set,
        boot_id=playground.boot_id.read_text().strip(),
    )
    for record in run_checks(record, checks, config.health.limits):  # noqa: B020 -- it grows
        write_health(config.paths.state, record)
        if record.checks:
            yield record.checks[-1]
    yield _settle(playground, record)


def _settle(playground: Playground, record: HealthRecord) -> Marked | LeftUnmarked:
    active_file = ("--active-file", playground.active_set)
    if record.is_healthy:
        _signpost(playground, "mark-successful-boot", *active_file)
        return Marked(set=record.set)
    following = _signpost(playground, "status", *active_file)["next"]
    return LeftUnmarked(
        set=record.set,
        failed=tuple(check.name for check in failures(record.checks)),
        next=SetName(following) if following else None,
    )
