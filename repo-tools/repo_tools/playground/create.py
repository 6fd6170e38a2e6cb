"""`repo-tools playground create`: machine, publisher and three releases from nothing."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import click
from semver import Version

from repo_tools.changes import Schedule
from repo_tools.draft import make_changes
from repo_tools.durable import write_durably
from repo_tools.errors import RepoToolsError
from repo_tools.ext4 import require_tools
from repo_tools.images import Codec
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.keys import KEYS_PER_ROLE
from repo_tools.layout import create_disk, plan, write_image
from repo_tools.options import Tell, print_line
from repo_tools.playground.facts import describe
from repo_tools.playground.machine import LeftUnmarked, reset
from repo_tools.playground.options import optional_directory_argument
from repo_tools.playground.place import Playground, claim
from repo_tools.playground.publisher import build_release, sizes
from repo_tools.programs import find_own_command
from repo_tools.repository import create_repository, publishing
from repo_tools.server import LOOPBACK
from repo_tools.sources import Release, add_release
from repo_tools.telling import telling
from repo_tools.wavefile import shipped_wave_file
from signpost.disk import Location, read
from signpost.sets import SetName

DEFAULT_PORT: Final = 8042
SEED: Final = 1311
"""The machine's place in every rollout, fixed so that trials are repeatable."""

_FACTORY: Final = Version(1, 0, 0)
_GOOD: Final = Version(1, 1, 0)
_BAD: Final = Version(1, 2, 0)
_ROLLOUT_AGE: Final = timedelta(days=5)
"""How long ago the rollout of 1.1.0 began: the wave of this seed has come by now."""

_SIZE = re.compile(r"(\d{1,6}) ?(MiB|GiB)")


def _parse_size(_context: click.Context, _parameter: click.Parameter, value: str) -> int:
    """Return a size in MiB, or end with a usage error."""
    match = _SIZE.fullmatch(value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a size; write it like 2GiB or 512MiB")
    return int(match[1]) * (1024 if match[2] == "GiB" else 1)


@click.command(
    "create",
    epilog="""\b
Examples:
  repo-tools playground create
  repo-tools playground create /tmp/machine --disk-size 512MiB --port 9000""",
)
@optional_directory_argument
@click.option(
    "--disk-size",
    "disk_mib",
    callback=_parse_size,
    metavar="SIZE",
    default="2GiB",
    show_default=True,
    help="Size of the OS disk; the file is sparse.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port on loopback where the machine looks for its publisher.",
)
@click.option("--force", is_flag=True, help="Replace a playground that is there already.")
def command(directory: Path, disk_mib: int, port: int, *, force: bool) -> None:
    """Make a playground in DIRECTORY (default: ./playground).

    It holds a machine that runs 1.0.0 from set A of its disk, and a publisher of 1.1.0, which is
    good, and of 1.2.0, which fails its health check and is held back until
    `repo-tools playground max-version DIRECTORY 1.2.0`.
    """
    # What cannot end well is refused before anything is made.
    plan(disk_mib)
    require_tools()
    again = f"`repo-tools playground create {directory} --force`"
    left = f"what was made so far stays, and {again} makes it anew"
    tell = _teller(wants_json())
    with telling("make the playground", directory, left=left):
        playground = claim(directory, force=force)
        create(playground, disk_mib=disk_mib, port=port, now=datetime.now(UTC), tell=tell)
    if wants_json():
        print_json(describe(playground))


def _teller(as_json: bool) -> Tell:
    return (lambda _label, _text: None) if as_json else print_line


def create(playground: Playground, *, disk_mib: int, port: int, now: datetime, tell: Tell) -> None:
    """Fill an empty playground, saying what is made.

    Raises:
        RepoToolsError: an image does not fit, or a tool is missing. What was made so far stays, and
            `--force` replaces it.
    """
    _make_publisher(playground, now=now, tell=tell)
    factory = _build(playground, _FACTORY, healthy=True, tell=tell)
    good = _build(playground, _GOOD, healthy=True, tell=tell)
    bad = _build(playground, _BAD, healthy=False, tell=tell)
    _publish(playground, good, bad, now=now, tell=tell)
    _make_machine(playground, factory, disk_mib=disk_mib, port=port, tell=tell)


def _make_publisher(playground: Playground, *, now: datetime, tell: Tell) -> None:
    playground.keys.generate()
    root = create_repository(playground.repository, playground.keys, now=now)
    write_durably(playground.trusted_root, root)
    counts = ", ".join(f"{role} {count}" for role, count in KEYS_PER_ROLE.items())
    tell("Keys", f"{playground.keys.path.name}/: {counts}; all of a role must sign")


def _build(playground: Playground, version: Version, *, healthy: bool, tell: Tell) -> Release:
    release = build_release(playground, version, healthy=healthy)
    remark = "" if healthy else ", fails its own health check"
    tell("Built", f"{version}: {sizes(release)}{remark}")
    return release


def _publish(
    playground: Playground, good: Release, bad: Release, *, now: datetime, tell: Tell
) -> None:
    """Publish both; the first sets the limit, which holds the second back."""
    schedule = Schedule(
        name="default",
        text=shipped_wave_file("default").text,
        start=now - _ROLLOUT_AGE,
        may_be_past=True,
    )
    changes = [
        add_release(good, codec=Codec.ZSTD, schedule=schedule, follows=_FACTORY),
        add_release(bad, codec=Codec.LZ4, hold_back=True),
    ]
    with publishing(playground.repository, playground.keys, now=now) as publication:
        make_changes(publication, changes, clock=lambda: now)
    waves = schedule.waves(now)
    age = f"{_ROLLOUT_AGE.days} days ago"
    tell("Published", f"{good.version} in {len(waves)} waves that began {age}")
    tell("Published", f"{bad.version}, held back: the limit is {good.version}")


def _make_machine(
    playground: Playground, factory: Release, *, disk_mib: int, port: int, tell: Tell
) -> None:
    """Make the OS disk with the first release in set A, and boot it."""
    create_disk(playground.disk, disk_mib)
    disk = read(Location(path=playground.disk))
    images = factory.images
    for image, partition in zip(
        (images.boot, images.root, images.hash), disk.sets[SetName.A].partitions, strict=True
    ):
        write_image(image, disk.window(partition))
    tell("Disk", f"{playground.disk.name}: {disk_mib} MiB, {len(disk.table.partitions)} partitions")
    write_durably(playground.config, _configuration(playground, port).encode())
    last = list(reset(playground))[-1]
    if isinstance(last, LeftUnmarked):
        raise RepoToolsError(f"the first release fails its own {', '.join(last.failed)}")
    tell("Machine", f"runs {factory.version} from set A; looks for updates at port {port}")


def _configuration(playground: Playground, port: int) -> str:
    """Return the agent's configuration; paths in it are relative to the playground."""
    reboot = [str(find_own_command("repo-tools")), "playground", "boot", str(playground.directory)]
    return f"""\
# The configuration of this playground's machine. On a real one it is /etc/updog.toml, most of this
# has the right value by default, and the reboot command is systemctl reboot.
metadata_base_url = "http://{LOOPBACK}:{port}/metadata"
targets_base_url = "http://{LOOPBACK}:{port}/targets"
seed = {SEED}

[paths]
trusted_root = "root.json"
metadata_cache = "metadata"
migrations = "migrations"
state = "state"
os_release = "run/os-release"
boot_id = "run/boot-id"
health = ["run/root/etc/signpost/health.d", "run/root/usr/lib/signpost/health.d"]
holds = ["hold.d"]

[disk]
path = "disk.img"
active_file = "run/active-set"

[reboot]
command = [{", ".join(json.dumps(word, ensure_ascii=False) for word in reboot)}]
"""
