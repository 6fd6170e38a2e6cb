"""A disk that fails in the middle of an update: what is told is true, and the next run mends it."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest

from tests.faults.conftest import EXPLORES_ALL, GROUNDS, Bench, Ground
from tests.helpers.http_server import Handler
from tests.helpers.judge import ROLES
from tests.helpers.machine import target_of

pytestmark = [pytest.mark.faults]

NODES, LARGE_SECTORS, WINDOWS = GROUNDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A way for a disk to fail: what the plugin is to do, and what is to be read of it."""

    name: str
    fault: dict[str, Any]
    words: str
    why: str

    def __str__(self) -> str:
        return self.name


CANNOT_WRITE = Failure(
    name="EIO on write",
    fault={"op": "pwrite", "errno": "EIO"},
    words="cannot write to",
    why="Input/output error",
)
NO_SPACE = Failure(
    name="ENOSPC",
    fault={"op": "pwrite", "errno": "ENOSPC"},
    words="cannot write to",
    why="No space left on device",
)
CANNOT_READ = Failure(
    name="EIO on read-back",
    fault={"op": "pread", "errno": "EIO"},
    words="cannot read",
    why="Input/output error",
)
OTHER_BYTES = Failure(
    name="other bytes",
    fault={"op": "pread", "flip": True},
    words="",
    why="the medium may be failing",
)
LOST_WRITES = Failure(
    name="lost writes",
    fault={"op": "pwrite", "loses": True},
    words="",
    why="",
)
FAILURES = (CANNOT_WRITE, NO_SPACE, CANNOT_READ, OTHER_BYTES, LOST_WRITES)

SAMPLE = (
    (CANNOT_WRITE, "root", NODES),
    (CANNOT_WRITE, "hash", WINDOWS),
    (NO_SPACE, "root", LARGE_SECTORS),
    (NO_SPACE, "boot", WINDOWS),
    (CANNOT_READ, "hash", NODES),
    (CANNOT_READ, "root", WINDOWS),
    (OTHER_BYTES, "root", NODES),
    (OTHER_BYTES, "boot", LARGE_SECTORS),
    (OTHER_BYTES, "hash", WINDOWS),
    (LOST_WRITES, "root", LARGE_SECTORS),
    (LOST_WRITES, "boot", NODES),
)


CASES = tuple(product(FAILURES, ROLES, GROUNDS)) if EXPLORES_ALL else SAMPLE
"""Every failure of every partition on every ground, or a sample with each in it."""


def place(bench: Bench, role: str) -> dict[str, int]:
    """Return where a partition of the inactive set is on the device."""
    first, end = bench.judge.windows()[role]
    return {"first": first, "end": end}


def name(bench: Bench, role: str, ground: Ground) -> str:
    """Return the name of a partition of the inactive set, as messages have it."""
    if ground.has_nodes:
        return f"{bench.device.node}p{ {'boot': 8, 'root': 9, 'hash': 10}[role] }"
    return f"{bench.machine.disk} at byte {bench.judge.windows()[role][0]}"


def on_request(bench: Bench, role: str, *faults: dict[str, Any]) -> None:
    """Let faults begin as soon as the whole of an image is asked for."""

    def begin(handler: Handler, body: bytes) -> None:
        bench.device.set_faults(*faults)
        handler.serve(body)

    bench.machine.server.misbehave(
        f"/targets/{target_of(bench.machine, role).name}", Handler.serve, begin
    )


def update(bench: Bench, *parts: str) -> str:
    """Let an update fail, and the next one succeed on a disk that works again."""
    line = bench.judge.failed(bench.machine.updog("update", "--now"), *parts)
    bench.device.set_faults()
    bench.judge.next_run_succeeds()
    return line


@pytest.mark.parametrize(("failure", "role", "ground"), CASES, indirect=["ground"], ids=str)
def test_a_partition_that_fails(bench: Bench, failure: Failure, role: str, ground: Ground) -> None:
    bench.device.set_faults({**failure.fault, **place(bench, role)})
    line = update(bench, "update to 1.1.0 stopped: ", failure.words, failure.why)
    if failure.words:
        assert f"{failure.words} {name(bench, role, ground)}: {failure.why}" in line
    else:
        assert role in line


@pytest.mark.parametrize("at", [4096 * 5 + 77, 4096 * 6911] if EXPLORES_ALL else [4096 * 6911])
def test_the_first_block_that_a_root_partition_gives_back_wrong_is_named(
    bench: Bench, at: int
) -> None:
    first = place(bench, "root")["first"] + at
    bench.device.set_faults({"op": "pread", "first": first, "end": first + 1, "flip": True})
    update(bench, f"block {at // 4096} of the root partition", "the medium may be failing")


def test_a_hash_tree_that_comes_back_wrong_is_not_taken_for_a_wrong_root(bench: Bench) -> None:
    """Its lowest level vouches for the root; that is not read before the root is written."""
    first = place(bench, "hash")["first"] + 4096 * 20
    bench.device.set_faults({"op": "pread", "first": first, "end": first + 1, "flip": True})
    update(bench, "the hash partition does not give back what was written", "may be failing")


@pytest.mark.parametrize("role", ROLES if EXPLORES_ALL else ["root"])
def test_a_partition_that_cannot_be_flushed(bench: Bench, role: str, ground: Ground) -> None:
    on_request(bench, role, {"op": "flush", "errno": "EIO"})
    update(bench, f"cannot flush {name(bench, role, ground)}: Input/output error")


@pytest.mark.parametrize(
    ("changes_before", "words"),
    [
        (0, "cannot write the primary header to"),
        (1, "1.1.0 stands in set B, but the set could not be marked valid: "),
        (2, "1.1.0 is in set B, not activated; `updog update-apply` activates it"),
    ],
)
def test_a_table_that_cannot_be_written(bench: Bench, changes_before: int, words: str) -> None:
    """LBA 1 is written once for each change: when clearing, marking valid, and upgrading."""
    header = {"op": "pwrite", "first": 512, "end": 1024, "errno": "EIO", "after": changes_before}
    bench.device.set_faults(header)
    update(bench, words, "Input/output error")


def test_a_disk_that_vanishes_under_an_update(bench: Bench) -> None:
    def vanish(handler: Handler, body: bytes) -> None:
        bench.device.vanish()
        handler.serve(body)

    machine, judge = bench.machine, bench.judge
    machine.server.misbehave(f"/targets/{target_of(machine, 'root').name}", Handler.serve, vanish)
    judge.failed(machine.updog("update", "--now"), "cannot ", f"{bench.device.node}p")
    machine.disk.unlink()
    content = judge.path
    content.rename(machine.disk)
    judge.medium = None
    judge.next_run_succeeds()
