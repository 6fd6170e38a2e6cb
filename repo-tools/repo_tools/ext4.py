"""ext4 file systems in image files, made and read without mounting, root or loop devices.

Decides that the same tree gives the same bytes on any day and any host: files go in one by one in
sorted order through debugfs (`mke2fs -d` takes the order and the change times of the host's
directory), times are one given moment, owners are root, and the host's mke2fs.conf is not read.
Everything else is as `tree` says. Refuses names that debugfs cannot be told.
"""

import re
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from repo_tools.errors import FileSystemError, RepoToolsError
from repo_tools.programs import find_program, run_program
from repo_tools.tree import CAPABILITY, Entry, Tree

BLOCK_SIZE = 4096
_INODE_SIZE = 256
_RESERVED_INODES = 11
_MEBIBYTE = 1 << 20
_MKE2FS_CONF = """\
[defaults]
    base_features = ext_attr,extent,filetype,sparse_super,large_file,huge_file,dir_nlink,extra_isize
[fs_types]
    system = {
        blocksize = 4096
    }
"""
_NO_ERROR = re.compile(
    # Its banner, and that files copied out by an ordinary user belong to that user.
    r"debugfs \d.*|\w+: Operation not permitted while changing ownership of .*"
)
_UNSPEAKABLE = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_COMMAND_BYTES: Final = 8000
"""debugfs reads its commands into a buffer of 8192 bytes and would cut a longer one in two."""
_LONGEST_INLINE_LINK_BYTES: Final = 59
_NAMES: Final = ("utf-8", "surrogateescape")
"""How names become bytes, whatever they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """What of a file system does not come from its tree."""

    size_bytes: int
    uuid: UUID
    made_at: int
    """Seconds since 1970, the time of every file in it."""


def require_tools() -> None:
    """Fail early where file systems could be neither made nor read.

    Raises:
        RepoToolsError: e2fsprogs is missing.
    """
    for name in ("mke2fs", "debugfs"):
        find_program(name)


def build_file_system(tree: Tree, image: Path, how: Format) -> None:
    """Write an ext4 file system that holds `tree` into the new file `image`.

    Raises:
        RepoToolsError: the tree does not fit, has a name that debugfs cannot be told, or e2fsprogs
            is missing.
    """
    _make_empty(image, how, inode_count=len(tree.entries) + _RESERVED_INODES + 1)
    with tempfile.TemporaryDirectory() as scratch:
        script = Path(scratch, "commands")
        lines = "".join(f"{line}\n" for line in _script(tree, Path(scratch)))
        script.write_bytes(lines.encode(*_NAMES))
        errors = _debugfs(["-w", "-f", str(script)], image, made_at=how.made_at)
    if errors:
        raise RepoToolsError(f"cannot fill {image}: {errors[0]}")


def needed_bytes(tree: Tree) -> int:
    """Return a size, in whole MiB, that `tree` fits into with some room: the same on any host."""
    inodes = -(-len(tree.entries) * _INODE_SIZE // BLOCK_SIZE)
    blocks = (
        inodes + sum(map(_content_blocks, tree.entries)) + sum(_directory_blocks(tree).values())
    )
    with_room = blocks * BLOCK_SIZE * 9 // 8
    return (-(-with_room // _MEBIBYTE) + 2) * _MEBIBYTE


def _content_blocks(entry: Entry) -> int:
    if stat.S_ISLNK(entry.mode):
        return int(len(entry.target.encode(*_NAMES)) > _LONGEST_INLINE_LINK_BYTES)
    return 0 if entry.first_name else -(-entry.size_bytes // BLOCK_SIZE)


def _directory_blocks(tree: Tree) -> dict[str, int]:
    """Return how many blocks each directory needs at most."""
    sizes = {entry.name: 0 for entry in tree.entries if stat.S_ISDIR(entry.mode)} | {"": 0}
    for entry in tree.entries:
        # Eight bytes and the name, on a four-byte grid.
        sizes[_parent(entry)] += 12 + len(_basename(entry).encode(*_NAMES))
    # "." and "..", and at the end of a block less room than the longest name takes.
    return {name: 1 + (24 + size) // (BLOCK_SIZE - 264) for name, size in sizes.items()}


def _parent(entry: Entry) -> str:
    return entry.name.rpartition("/")[0]


def _basename(entry: Entry) -> str:
    return entry.name.rpartition("/")[2]


def read_file(image: Path, name: str, *, offset_bytes: int = 0) -> bytes:
    """Read one regular file of the file system that begins at `offset_bytes` of `image`.

    Raises:
        FileSystemError: there is no file system or no such file, or it is damaged.
    """
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, "file")
        _read(image, f"dump {_quoted(name)} {_quoted(copy)}", offset_bytes)
        return copy.read_bytes()


def extract_tree(image: Path, directory: Path, *, offset_bytes: int = 0) -> None:
    """Copy all files of a file system into an existing, empty directory.

    Owners are kept if root does it.

    Raises:
        FileSystemError: there is no file system, or it is damaged.
    """
    _read(image, f"rdump / {_quoted(directory)}", offset_bytes)


def list_directory(image: Path, name: str, *, offset_bytes: int = 0) -> dict[str, int]:
    """Return the names in a directory, each with the length of what it names, in bytes.

    Raises:
        FileSystemError: there is no file system or no such directory, or it is damaged.
    """
    listed = _read(image, f"ls -p {_quoted(name)}", offset_bytes)
    lines = (line.split("/") for line in listed.splitlines() if line.startswith("/"))
    # /inode/mode/user/group/name/size/
    return {line[5]: int(line[6] or 0) for line in lines if line[5] not in {".", ".."}}


def _make_empty(image: Path, how: Format, *, inode_count: int) -> None:
    image.unlink(missing_ok=True)
    with image.open("xb") as file:
        file.truncate(how.size_bytes)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".conf") as configuration:
        configuration.write(_MKE2FS_CONF)
        configuration.flush()
        done = run_program(
            find_program("mke2fs"),
            *("-q", "-F", "-T", "system", "-m", "0"),
            *("-b", str(BLOCK_SIZE), "-I", str(_INODE_SIZE), "-N", str(inode_count)),
            *("-U", str(how.uuid), "-E", f"hash_seed={how.uuid},lazy_itable_init=0,nodiscard"),
            image,
            environment=_reproducible(how.made_at, MKE2FS_CONFIG=configuration.name),
        )
    if done.returncode != 0:
        raise RepoToolsError(f"mke2fs failed on {image}: {done.stderr.strip()}")


def _reproducible(made_at: int, **more: str) -> dict[str, str]:
    # e2fsprogs before 1.47.1 knows the first name only, others may know the second only.
    return {"E2FSPROGS_FAKE_TIME": str(made_at), "SOURCE_DATE_EPOCH": str(made_at), **more}


def _script(tree: Tree, scratch: Path) -> Iterator[str]:
    """Yield the debugfs commands that fill an image; values of attributes go into `scratch`."""
    room = _directories_of_hard_links(tree)
    yield f"set_inode_field / mode 0{tree.mode:o}"
    yield from ["expand_dir /"] * room.get("", 0)
    for number, entry in enumerate(tree.entries):
        name = _quoted(f"/{entry.name}")
        yield from (_whole(command, entry) for command in _commands(entry, name))
        yield from [f"expand_dir {name}"] * room.get(entry.name, 0)
        if entry.capability and not entry.first_name:
            value = scratch / str(number)
            value.write_bytes(entry.capability)
            yield f"ea_set -f {_quoted(value)} {name} {CAPABILITY}"


def _directories_of_hard_links(tree: Tree) -> dict[str, int]:
    """Return by how many blocks a directory must grow first: for `ln`, debugfs does not do it."""
    linked = {_parent(entry) for entry in tree.entries if entry.first_name}
    return {name: blocks - 1 for name, blocks in _directory_blocks(tree).items() if name in linked}


def _commands(entry: Entry, name: str) -> Iterator[str]:
    """Yield the commands that put one file, directory or link into the image."""
    if entry.first_name:
        yield f"ln {_quoted(f'/{entry.first_name}')} {name}"
    elif stat.S_ISLNK(entry.mode):
        yield f"symlink {name} {_quoted(entry.target)}"
    elif stat.S_ISDIR(entry.mode):
        yield f"mkdir {name}"
        yield f"set_inode_field {name} mode 0{entry.mode:o}"
    else:
        yield f"write {_quoted(entry.source.absolute())} {name}"
        yield f"set_inode_field {name} mode 0{entry.mode:o}"
        if entry.link_count > 1:
            yield f"set_inode_field {name} links_count {entry.link_count}"


def _whole(command: str, entry: Entry) -> str:
    if len(command.encode(*_NAMES)) > _LONGEST_COMMAND_BYTES:
        raise RepoToolsError(f"{entry.source}: the path is too long to go into an ext4 image")
    return command


def _quoted(path: Path | str) -> str:
    """Quote a word for debugfs, which doubles the quotes inside quotes."""
    text = str(path)
    if _UNSPEAKABLE.search(text):
        raise RepoToolsError(
            f"{text!r}: control characters in a name cannot go into an ext4 image, but into erofs"
        )
    return '"' + text.replace('"', '""') + '"'


def _read(image: Path, command: str, offset_bytes: int) -> str:
    done = _run_debugfs(["-R", command], image, offset_bytes=offset_bytes)
    errors = _errors(done)
    if errors:
        where = f"{image} at byte {offset_bytes}" if offset_bytes else str(image)
        raise FileSystemError(f"cannot read the file system in {where}: {errors[0]}")
    return done.stdout


def _debugfs(arguments: list[str], image: Path, *, made_at: int) -> tuple[str, ...]:
    """Change an image by debugfs and return what went wrong."""
    return _errors(_run_debugfs(arguments, image, made_at=made_at))


def _run_debugfs(
    arguments: list[str], image: Path, *, offset_bytes: int = 0, made_at: int = 0
) -> subprocess.CompletedProcess[str]:
    # In the image's own directory: a question mark before the options would end the path.
    return run_program(
        find_program("debugfs"),
        *arguments,
        f"{image.name}?offset={offset_bytes}" if offset_bytes else image.name,
        cwd=image.absolute().parent,
        environment=_reproducible(made_at) if made_at else None,
        timeout_seconds=3600,
    )


def _errors(done: subprocess.CompletedProcess[str]) -> tuple[str, ...]:
    errors = complaints(done.stderr)
    if done.returncode != 0 and not errors:
        return (f"debugfs ended with exit code {done.returncode}",)
    return errors


def complaints(stderr: str) -> tuple[str, ...]:
    """Return the errors in what debugfs wrote: its exit code is 0 even when a command failed."""
    lines = (line.strip() for line in stderr.splitlines())
    return tuple(line for line in lines if line and not _NO_ERROR.fullmatch(line))
