"""The sequence of an update, one line a step, and what is left when a step fails.

    (updog.consultation: refresh trust -> read the manifest -> choose) -> (updog.plan)
      -> clear the inactive set -> write and prove hash, root, boot -> mark valid -> upgrade

Decides the order. What can be refused early, `plan` refuses before anything is cleared; every later
error tells in which state both sets are.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import structlog
from semver import Version

from signpost import disk as boot_disk
from signpost import state as boot_state
from signpost.disk import BootDisk, Window
from signpost.errors import SignpostError
from signpost.flags import CLEARED
from signpost.sets import SetName
from signpost.state import BootState
from updog import kept_migrations
from updog.errors import ImageError, PartitionError, UpdogError
from updog.health_file import forget_health
from updog.history import (
    Content,
    Event,
    EventKind,
    known_version,
    last_deed,
    staged_version,
)
from updog.install import (
    Image,
    Role,
    Written,
    check_image,
    open_tree,
    prove,
    write_image,
)
from updog.machine import Machine
from updog.metadata import Repository, Target
from updog.partition import OpenPartition, describe, open_for_writing
from updog.plan import Plan, require_images
from updog.progress import Advance, Progress
from updog.units import duration, size
from updog.verification import verify_set
from updog.verity import TreeReader

_log = structlog.get_logger()


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """An update that stands in the inactive set, proven and marked valid."""

    version: Version
    set: SetName
    bytes: int
    seconds: float


def rehearse(planned: Plan, repository: Repository, progress: Progress) -> None:
    """Fetch and check every image and migration and throw it away: the update can be installed.

    Raises:
        UpdogError: one cannot be fetched, is not as signed, or is too large.
    """
    for name in dict.fromkeys(planned.migrations):
        repository.deliver(repository.target(name), _exhaust)
    progress.expect(planned.download_bytes)
    tree: TreeReader | None = None
    for role in Role:
        tree = _rehearse_image(role, planned, repository, progress, tree=tree)
    if tree is None:
        _log.warning(
            "prepare",
            summary="the hash tree is too large to keep: the root was not compared with it",
        )


def _exhaust(chunks: Iterator[bytes]) -> None:
    for _ in chunks:
        pass


def _rehearse_image(
    role: Role,
    planned: Plan,
    repository: Repository,
    progress: Progress,
    *,
    tree: TreeReader | None,
) -> TreeReader | None:
    target, room_bytes = planned.targets[role], planned.windows[role].length_bytes

    def check(chunks: Iterator[bytes]) -> TreeReader | None:
        with progress.fetching(role, target.length) as advance:
            return check_image(_image(role, target, chunks, advance), room_bytes, tree=tree)

    return repository.deliver(target, check)


def _keep_migrations(machine: Machine, repository: Repository, planned: Plan) -> None:
    """Fetch the migrations of a plan, if it has any, and keep them and no others for the reboot."""
    directory = machine.config.paths.migrations
    if not planned.migrations:
        kept_migrations.forget(directory)
        return
    kept_migrations.keep(
        repository,
        planned.migrations,
        directory,
        running=machine.host.version,
        goal=planned.update.version,
    )
    count = len(planned.migrations)
    _log.info("migrations", summary=f"{count} kept for the reboot", count=count)


def install(
    machine: Machine,
    repository: Repository,
    planned: Plan,
    progress: Progress,
    *,
    by_hand: bool = False,
) -> Installed:
    """Write an update into the inactive set, prove it, and mark the set valid.

    Args:
        machine: What is updated.
        repository: Where from.
        planned: What was chosen, and where it goes.
        progress: Who is told how far it is.
        by_hand: It is a downgrade that the machine would not have taken by itself.

    Raises:
        UpdogError: the text says which step failed and what state both sets are in.
        SignpostError: a boot flag could not be changed; likewise.
    """
    if _stands_already(machine, planned):
        _note_found(machine, planned)
        _keep_migrations(machine, repository, planned)
        return Installed(version=planned.update.version, set=planned.inactive, bytes=0, seconds=0)
    _log_plan(machine, planned)
    started = time.monotonic()
    with _opened(planned.windows) as partitions:
        require_images(planned, repository)
        with _telling_of_failures(machine, planned):
            machine.history.append(
                _event(EventKind.STARTED, planned, running=machine.host.version, by_hand=by_hand)
            )
            _clear(machine, planned)
            with _telling_what_is_left(planned):
                forget_health(machine.config.paths.state, planned.inactive)
                # Not before: until the set is cleared, those of what it holds may be needed.
                _keep_migrations(machine, repository, planned)
                contents = _Installation(
                    planned=planned, repository=repository, partitions=partitions, progress=progress
                ).run()
            _mark_valid(machine, planned)
    installed = Installed(
        version=planned.update.version,
        set=planned.inactive,
        bytes=planned.download_bytes,
        seconds=time.monotonic() - started,
    )
    _record_installed(machine, planned, installed, contents)
    return installed


def _stands_already(machine: Machine, planned: Plan) -> bool:
    """Whether the inactive set holds this very update, by its history, flags and signed digests.

    Also where the run that wrote it was stopped before it could note that.
    """
    state = boot_disk.read(machine.location).state
    if not state.flags[planned.inactive].tries:
        return False
    if known_version(machine.history.events(), state, planned.inactive) != planned.update.version:
        return False
    findings = verify_set(planned.windows, _signed_contents(planned))
    if not all(finding.is_proven for finding in findings):
        return False
    _log.info(
        "staged",
        summary=f"{planned.update.version} stands in set {planned.inactive} already, as signed",
        version=str(planned.update.version),
        set=planned.inactive,
    )
    return True


def _note_found(machine: Machine, planned: Plan) -> None:
    """Note an installation that the run that made it could not note."""
    state = boot_disk.read(machine.location).state
    if staged_version(machine.history.events(), state, planned.inactive) is not None:
        return
    found = Installed(version=planned.update.version, set=planned.inactive, bytes=0, seconds=0)
    _record_installed(machine, planned, found, _signed_contents(planned))


def _signed_contents(planned: Plan) -> dict[str, Content]:
    """Return what belongs into the partitions of hash and boot, of the root its tree tells."""
    signed = {role: _signed(planned.targets[role]) for role in (Role.HASH, Role.BOOT)}
    return {role: content for role, content in signed.items() if content}


def _signed(target: Target) -> Content | None:
    """Return what a target unpacks to, as far as the publisher signed that."""
    length, sha256 = target.uncompressed_length, target.uncompressed_sha256
    if length is None or sha256 is None:
        return None
    return Content(length=length, sha256=sha256)


@contextmanager
def _telling_of_failures(machine: Machine, planned: Plan) -> Iterator[None]:
    """Note a failure, and an interruption outside of the steps that tell what they leave."""
    before = _state(machine)
    try:
        yield
    except KeyboardInterrupt as err:
        failure = UpdogError(_words_for_interruption(planned, before, _state(machine)))
        _record_failure(machine, planned, failure)
        raise failure from err
    except (UpdogError, SignpostError) as err:
        _record_failure(machine, planned, err)
        raise


def _words_for_interruption(
    planned: Plan, before: BootState | None, state: BootState | None
) -> str:
    version, name = planned.update.version, planned.inactive
    stopped = f"update to {version} stopped: interrupted"
    if state is None:
        return (
            f"{stopped}. `signpost status` says what boots; set {name.other} is untouched. Run the "
            "command again"
        )
    if state.flags[name] == CLEARED:
        return f"{stopped}. {_cleared(name)}"
    if state == before:
        return (
            f"{stopped}. As the disk reads now, the old flags count, and no partition was written. "
            "Run the command again"
        )
    return words_for_marking(version, name, state, "interrupted")


def _cleared(name: SetName) -> str:
    return (
        f"Set {name} is cleared and will not boot; set {name.other} is untouched. Run the command "
        "again to start over"
    )


def _clear(machine: Machine, planned: Plan) -> None:
    boot_disk.change(machine.location, boot_state.clear_inactive, expected=planned.sets)


def _mark_valid(machine: Machine, planned: Plan) -> None:
    """Mark the set valid, unless its partitions have moved since they were opened."""
    try:
        boot_disk.change(machine.location, boot_state.mark_inactive_valid, expected=planned.sets)
    except (SignpostError, KeyboardInterrupt) as err:
        why = str(err) or "interrupted"
        words = words_for_marking(planned.update.version, planned.inactive, _state(machine), why)
        raise UpdogError(words) from err


def _state(machine: Machine) -> BootState | None:
    """Return the boot flags as they are now; None if they cannot be read."""
    try:
        return boot_disk.read(machine.location).state
    except SignpostError:
        return None


def words_for_marking(version: Version, name: SetName, state: BootState | None, why: str) -> str:
    """Say what a marking as valid leaves that was stopped: the change may have been made."""
    stands, untouched = f"{version} stands in set {name}", f"set {name.other} is untouched"
    if state is None:
        return (
            f"{stands}, but marking the set valid was stopped: {why}. `signpost status` says "
            f"whether it is; {untouched}. Run the command again"
        )
    if state.flags[name].tries:
        return (
            f"{stands}, marked valid, but the run was stopped then: {why}. It is not activated; "
            f"{untouched}. Run the command again to go on"
        )
    return (
        f"{stands}, but the set could not be marked valid: {why}. It will not boot; {untouched}. "
        "Run the command again"
    )


def _log_plan(machine: Machine, planned: Plan) -> None:
    version = planned.update.version
    direction = "downgrade " if version < machine.host.version else ""
    _log.info(
        "update",
        summary=(
            f"{direction}{machine.host.version} -> {version}, {size(planned.download_bytes)} to "
            f"fetch, into set {planned.inactive}"
        ),
        running=str(machine.host.version),
        version=str(version),
        bytes=planned.download_bytes,
        set=planned.inactive,
        partitions=[describe(planned.windows[role]) for role in Role],
    )


@contextmanager
def _opened(windows: Mapping[Role, Window]) -> Iterator[dict[Role, OpenPartition]]:
    """Open all partitions of a set for this process alone, before anything is cleared."""
    with ExitStack() as stack:
        try:
            partitions = {
                role: stack.enter_context(open_for_writing(window))
                for role, window in windows.items()
            }
        except PartitionError as err:
            raise UpdogError(
                f"{err} (both sets are untouched). Once that is mended, run the command again"
            ) from err
        yield partitions


@contextmanager
def _telling_what_is_left(planned: Plan) -> Iterator[None]:
    """Add to an error the state that it leaves."""
    try:
        yield
    # The last two come of too little memory.
    except (UpdogError, SignpostError, KeyboardInterrupt, MemoryError, OSError) as err:
        raise UpdogError(
            f"update to {planned.update.version} stopped: {_why(err)}. {_cleared(planned.inactive)}"
        ) from err


def _why(err: BaseException) -> str:
    match err:
        case KeyboardInterrupt():
            return "interrupted"
        case MemoryError():
            return "there is not enough memory"
        case OSError():
            return err.strerror or str(err)
        case _:
            return str(err)


class _Installation(msgspec.Struct, frozen=True, kw_only=True):
    """The writing and proving of one set."""

    planned: Plan
    repository: Repository
    partitions: Mapping[Role, OpenPartition]
    progress: Progress

    def run(self) -> dict[str, Content]:
        """Write the images, the hash tree first, then read all of them back.

        Not each before the next: on a medium that holds less than it says, a later write lands on
        what was written, and proven, before.

        Returns:
            What stands in the partitions now, of the root too much to tell: its tree does.
        """
        self.progress.expect(self.planned.download_bytes)
        hashes = self._write(Role.HASH, tree=None)
        with self._doubting_the_medium(hashes):
            tree = open_tree(hashes, self.partitions[Role.HASH])
        root = self._write(Role.ROOT, tree=tree, hashes=hashes)
        boot = self._write(Role.BOOT, tree=None)
        started = time.monotonic()
        self._prove((hashes, root, boot), tree)
        _log.info(
            "verify",
            summary=f"set {self.planned.inactive} read back: hash, root, boot are what was signed",
            set=self.planned.inactive,
            seconds=round(time.monotonic() - started, 3),
        )
        return {
            written.role: Content(length=written.length_bytes, sha256=written.sha256)
            for written in (hashes, boot)
            if written.sha256 is not None
        }

    @contextmanager
    def _doubting_the_medium(self, hashes: Written | None) -> Iterator[None]:
        """Blame no image, nor its mirror, for a tree that the medium does not give back as written.

        Raises:
            PartitionError: the medium is to blame.
        """
        try:
            yield
        except ImageError:
            if hashes is not None:
                prove(hashes, self.partitions[Role.HASH], tree=None)
            raise

    def _prove(self, images: Sequence[Written], tree: TreeReader) -> None:
        with self.progress.verifying(sum(written.length_bytes for written in images)) as advance:
            for written in images:
                own = tree if written.role is Role.ROOT else None
                prove(written, self.partitions[written.role], tree=own, advance=advance)

    def _write(
        self, role: Role, *, tree: TreeReader | None, hashes: Written | None = None
    ) -> Written:
        target, partition = self.planned.targets[role], self.partitions[role]
        started = time.monotonic()

        def write(chunks: Iterator[bytes]) -> Written:
            with (
                self.progress.fetching(role, target.length) as advance,
                self._doubting_the_medium(hashes),
            ):
                return write_image(_image(role, target, chunks, advance), partition, tree=tree)

        written = self.repository.deliver(target, write)
        _log_written(target, written, seconds=time.monotonic() - started)
        return written


def _log_written(target: Target, written: Written, *, seconds: float) -> None:
    _log.info(
        written.role,
        summary=(
            f"{size(target.length)} fetched, {size(written.length_bytes)} written in "
            f"{duration(timedelta(seconds=seconds))}"
        ),
        fetched_bytes=target.length,
        written_bytes=written.length_bytes,
        seconds=round(seconds, 3),
    )


def _image(role: Role, target: Target, chunks: Iterator[bytes], advance: Advance) -> Image:
    return Image(
        role=role,
        name=target.name,
        chunks=_counted(chunks, advance),
        content_length=target.uncompressed_length,
        content_sha256=target.uncompressed_sha256,
    )


def _counted(chunks: Iterator[bytes], advance: Advance) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        advance(len(chunk))


def activate(machine: Machine) -> Version:
    """Let the next boot try what updog installed into the inactive set.

    Raises:
        UpdogError: updog installed nothing there.
        SignpostError: the flags forbid it, or cannot be written.
    """
    found = boot_disk.read(machine.location)
    inactive = boot_state.inactive_set(found.state)
    version = staged_version(machine.history.events(), found.state, inactive)
    if version is None:
        raise UpdogError(
            f"set {inactive} holds no update that updog has installed and proven; "
            "run `updog update-image` first"
        )
    changed = boot_disk.change(machine.location, boot_state.upgrade_to_inactive)
    last = last_deed(machine.history.events())
    if changed.steps or last is None or last.kind is not EventKind.ACTIVATED:
        _record(machine, EventKind.ACTIVATED, version, inactive)
    _log_flags(changed.after, inactive)
    return version


def _log_flags(found: BootDisk, inactive: SetName) -> None:
    flags = found.state.flags
    _log.info(
        "flags",
        summary=(
            f"{inactive}: priority {flags[inactive].priority}, {flags[inactive].tries} try; "
            f"{inactive.other}: priority {flags[inactive.other].priority}, successful"
        ),
        next=boot_state.next_set(found.state),
    )


def revert(machine: Machine) -> Version | None:
    """Take an activated update back before it is booted; return its version, where known.

    Raises:
        UpdogError: no update is pending.
        SignpostError: the flags forbid it, or cannot be written.
    """
    found = boot_disk.read(machine.location)
    inactive = boot_state.inactive_set(found.state)
    following = boot_state.next_set(found.state)
    if following is not inactive:
        raise UpdogError(
            f"no update is pending: the next boot takes set {following or 'none'}, "
            "nothing was changed"
        )
    version = staged_version(machine.history.events(), found.state, inactive)
    boot_disk.change(machine.location, boot_state.cancel_upgrade)
    if version is not None:
        _record(machine, EventKind.REVERTED, version, inactive)
    return version


def _record(machine: Machine, kind: EventKind, version: Version, name: SetName) -> None:
    event = Event(
        time=datetime.now(UTC), kind=kind, version=version, set=name, boot_id=machine.boot_id
    )
    machine.history.append(event)


def _record_failure(machine: Machine, planned: Plan, failure: Exception) -> None:
    """Note a failure, unless that fails too: the first error is the one to be told."""
    with suppress(UpdogError):
        machine.history.append(_event(EventKind.FAILED, planned, error=str(failure)))


def _record_installed(
    machine: Machine, planned: Plan, installed: Installed, contents: Mapping[str, Content]
) -> None:
    """Note an installation.

    Raises:
        UpdogError: that cannot be written; the text tells what stands in the set all the same.
    """
    event = _event(
        EventKind.INSTALLED,
        planned,
        bytes=installed.bytes,
        seconds=round(installed.seconds, 3),
        contents=contents,
        boot_id=machine.boot_id,
    )
    try:
        machine.history.append(event)
    except (UpdogError, KeyboardInterrupt) as err:
        why = str(err) or "interrupted"
        raise UpdogError(
            f"{why}. {installed.version} stands in set {installed.set}, marked valid but not "
            f"activated; set {installed.set.other} is untouched. Once the history can be written, "
            "run the command again to go on"
        ) from err


def _event(kind: EventKind, planned: Plan, **facts: Any) -> Event:
    return Event(
        time=datetime.now(UTC),
        kind=kind,
        version=planned.update.version,
        set=planned.inactive,
        **facts,
    )
