"""ext4 file systems in image files, made and read without mounting, root or loop devices.

Decides that the same tree gives the same bytes on any day and any host: files go in one by one in
sorted order through debugfs (`mke2fs -d` takes the order and the change times of the host's
directory), times are one given moment, owners are root, and the host's mke2fs.conf is not read.
Permission bits and symbolic links are kept. Refuses devices, sockets and names that debugfs cannot
be told.
"""

import re
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from repo_tools.errors import FileSystemError, RepoToolsError
from repo_tools.programs import find_program, run_program

BLOCK_SIZE = 4096
_INODE_SIZE = 256
_RESERVED_INODES = 11
_MEBIBYTE = 1 << 20
_MKE2FS_CONF = """\
[defaults]
    base_features = extent,filetype,sparse_super,large_file,huge_file,dir_nlink,extra_isize
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


def build_file_system(tree: Path, image: Path, how: Format) -> None:
    """Write an ext4 file system that holds `tree` into the new file `image`.

    Raises:
        RepoToolsError: the tree does not fit, holds what an image must not, or e2fsprogs is
            missing.
    """
    entries = sorted(tree.rglob("*"))
    _make_empty(image, how, inode_count=len(entries) + _RESERVED_INODES + 1)
    commands = "".join(f"{line}\n" for path in entries for line in _commands(tree, path))
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".debugfs") as script:
        script.write(commands)
        script.flush()
        errors = _debugfs(["-w", "-f", script.name], image, made_at=how.made_at)
    if errors:
        raise RepoToolsError(f"cannot put {tree} into {image}: {errors[0]}")


def needed_bytes(tree: Path) -> int:
    """Return a size, in whole MiB, that `tree` fits into with some room: the same on any host."""
    paths = list(tree.rglob("*"))
    blocks = sum(map(_content_blocks, paths)) + -(-len(paths) * _INODE_SIZE // BLOCK_SIZE)
    with_room = blocks * BLOCK_SIZE * 9 // 8
    return (-(-with_room // _MEBIBYTE) + 2) * _MEBIBYTE


def _content_blocks(path: Path) -> int:
    status = path.lstat()
    if stat.S_ISREG(status.st_mode):
        return -(-status.st_size // BLOCK_SIZE)
    # What the host says of a directory's size depends on the host's file system.
    return 1 if stat.S_ISDIR(status.st_mode) else 0


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


def _commands(tree: Path, path: Path) -> Iterator[str]:
    """Yield the debugfs commands that put one file, directory or link into the image."""
    name = _quoted(f"/{path.relative_to(tree)}")
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        yield f"symlink {name} {_quoted(path.readlink())}"
    elif stat.S_ISDIR(mode):
        yield f"mkdir {name}"
        yield f"set_inode_field {name} mode 0{mode:o}"
    elif stat.S_ISREG(mode):
        yield f"write {_quoted(path.absolute())} {name}"
    else:
        raise RepoToolsError(f"{path} is no file, directory or link: an image holds nothing else")


def _quoted(path: Path | str) -> str:
    """Quote a word for debugfs, which doubles the quotes inside quotes."""
    text = str(path)
    if _UNSPEAKABLE.search(text):
        raise RepoToolsError(f"{text!r}: control characters in a name cannot go into an image")
    return '"' + text.replace('"', '""') + '"'


def _read(image: Path, command: str, offset_bytes: int) -> None:
    errors = _debugfs(["-R", command], image, offset_bytes=offset_bytes)
    if errors:
        where = f"{image} at byte {offset_bytes}" if offset_bytes else str(image)
        raise FileSystemError(f"cannot read the file system in {where}: {errors[0]}")


def _debugfs(
    arguments: list[str], image: Path, *, offset_bytes: int = 0, made_at: int = 0
) -> tuple[str, ...]:
    """Run debugfs and return what went wrong."""
    # In the image's own directory: a question mark before the options would end the path.
    done = run_program(
        find_program("debugfs"),
        *arguments,
        f"{image.name}?offset={offset_bytes}" if offset_bytes else image.name,
        cwd=image.absolute().parent,
        environment=_reproducible(made_at) if made_at else None,
    )
    errors = complaints(done.stderr)
    if done.returncode != 0 and not errors:
        return (f"debugfs ended with exit code {done.returncode}",)
    return errors


def complaints(stderr: str) -> tuple[str, ...]:
    """Return the errors in what debugfs wrote: its exit code is 0 even when a command failed."""
    lines = (line.strip() for line in stderr.splitlines())
    return tuple(line for line in lines if line and not _NO_ERROR.fullmatch(line))
