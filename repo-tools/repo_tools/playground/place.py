"""Where the parts of a playground lie, and how a directory is known to be one.

Decides names only. Refuses directories that hold something else: a playground is created and
destroyed as a whole.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from repo_tools.errors import RepoToolsError
from repo_tools.keys import KeyDirectory
from updog.config import Config, load_config

_MARKER = ".playground"
_MARKER_TEXT = "Made by `repo-tools playground create`; --force may replace it.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Playground:
    """The files of one playground, all below `directory`, which is absolute."""

    directory: Path

    @property
    def disk(self) -> Path:
        """The machine's OS disk."""
        return self.directory / "disk.img"

    @property
    def config(self) -> Path:
        """The agent's configuration."""
        return self.directory / "updog.toml"

    @property
    def trusted_root(self) -> Path:
        """The root that the machine trusts from the start."""
        return self.directory / "root.json"

    @property
    def run(self) -> Path:
        """What exists only while the machine runs: gone at every reset."""
        return self.directory / "run"

    @property
    def os_release(self) -> Path:
        """The os-release of the running system."""
        return self.run / "os-release"

    @property
    def active_set(self) -> Path:
        """Says which set runs: A or B."""
        return self.run / "active-set"

    @property
    def boot_id(self) -> Path:
        """Names this boot, as the kernel does: another name after every reset."""
        return self.run / "boot-id"

    @property
    def running_root(self) -> Path:
        """The files of the running system, as if its root were mounted here."""
        return self.run / "root"

    @property
    def keys(self) -> KeyDirectory:
        """The publisher's keys."""
        return KeyDirectory(path=self.directory / "keys")

    @property
    def repository(self) -> Path:
        """What the publisher serves."""
        return self.directory / "repository"

    @property
    def releases(self) -> Path:
        """The images of each release as they were built, uncompressed."""
        return self.directory / "releases"

    @property
    def port(self) -> int:
        """The port of loopback where the machine looks for the publisher."""
        return urlsplit(self.read_config().metadata_base_url[0]).port or 80

    def read_config(self) -> Config:
        """Read the agent's configuration as the agent would."""
        return load_config(self.config)

    @property
    def _parts(self) -> tuple[Path, ...]:
        agent = [self.directory / name for name in ("metadata", "migrations", "state")]
        return (
            *(self.disk, self.config, self.trusted_root, self.run),
            *(self.keys.path, self.repository, self.releases),
            *agent,
        )

    def clear(self) -> None:
        """Remove everything that belongs to the playground, and nothing else."""
        for path in self._parts:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def claim(directory: Path, *, force: bool) -> Playground:
    """Make an empty playground out of a new or empty directory, or with `force` out of an old one.

    Raises:
        RepoToolsError: something else is there; it stays as it is.
    """
    playground = Playground(directory=directory.absolute())
    _refuse_foreign(playground.directory, force=force)
    playground.directory.mkdir(parents=True, exist_ok=True)
    (playground.directory / _MARKER).write_text(_MARKER_TEXT)
    playground.clear()
    return playground


def find_playground(directory: Path) -> Playground:
    """Return the playground in a directory.

    Raises:
        RepoToolsError: there is none, or its creation was interrupted.
    """
    playground = Playground(directory=directory.absolute())
    creates = f"`repo-tools playground create {directory}"
    if not (directory / _MARKER).is_file():
        raise RepoToolsError(f"no playground in {directory}: {creates}` makes one")
    if not playground.config.exists():
        raise RepoToolsError(f"{directory} was never finished: {creates} --force` makes it anew")
    return playground


def _refuse_foreign(directory: Path, *, force: bool) -> None:
    if not directory.exists():
        return
    if not directory.is_dir():
        raise RepoToolsError(f"cannot make a playground of {directory}: it is not a directory")
    if (directory / _MARKER).is_file():
        if not force:
            raise RepoToolsError(
                f"{directory} is a playground already: --force replaces it with a new one"
            )
    elif any(directory.iterdir()):
        raise RepoToolsError(
            f"cannot make a playground in {directory}: it is not empty and no playground; "
            "nothing was changed"
        )
