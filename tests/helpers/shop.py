"""A publisher's directory with keys, a root, and small images that belong together."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from click.testing import CliRunner, Result

from repo_tools.cli import cli
from repo_tools.errors import RepoToolsError
from repo_tools.images import BootContent, Recipe, build_images
from repo_tools.keys import KeyDirectory
from repo_tools.repository import PublishedRepository, create_repository
from repo_tools.tree import read_tree
from updog.manifest import Manifest, parse_manifest
from updog.metadata import Repository
from updog.transport import Transport

VARIANT, ARCH = "shop", "x86_64"


def build_small_images(directory: Path, content: str, *, name: str = "content") -> Path:
    """Build the three images of a system that consists of one file."""
    root, boot = directory / "root", directory / "boot"
    for tree in (root, boot):
        tree.mkdir(parents=True)
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text(content)
    (boot / "vmlinuz").write_text("a kernel")
    build_images(read_tree(root), BootContent(tree=boot), directory, Recipe(made_at=1))
    return directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """What a publisher works in, and what machines see of it."""

    directory: Path

    @property
    def repository(self) -> Path:
        """What is served."""
        return self.directory / "repository"

    @property
    def keys(self) -> KeyDirectory:
        """The keys that sign it."""
        return KeyDirectory(path=self.directory / "keys")

    @property
    def trusted_root(self) -> bytes:
        """What machines trust from the start."""
        return (self.repository / "metadata" / "1.root.json").read_bytes()

    @property
    def manifest(self) -> Manifest:
        """What is published."""
        data = PublishedRepository(self.repository).read("manifest.json")
        assert data is not None
        return parse_manifest(data)

    def run(self, *arguments: str | Path) -> Result:
        """Run a command in this process, whatever its outcome."""
        words = [*map(str, arguments), "--publisher", str(self.directory)]
        return CliRunner().invoke(cli, words)

    def do(self, *arguments: str | Path) -> str:
        """Run a command that must succeed, and return what it prints."""
        done = self.run(*arguments)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    def refusal(self, *arguments: str | Path) -> str:
        """Run a command that must be refused, and return why; nothing may have changed."""
        before = self.files()
        done = self.run(*arguments)
        assert isinstance(done.exception, RepoToolsError), done.output
        assert self.files() == before
        return str(done.exception)

    def add(self, version: str, images: Path, *more: str | Path) -> str:
        """Add a release."""
        return self.do("release", "add", version, *self.release_words(images), *more)

    def release_words(self, images: Path) -> list[str | Path]:
        """Return the options that every release here has."""
        return ["--variant", VARIANT, "--arch", ARCH, "--images", images]

    def files(self) -> Mapping[Path, bytes]:
        """Return every file of repository and draft."""
        return {
            path: path.read_bytes()
            for name in ("repository", "draft")
            for path in (self.directory / name).rglob("*")
            if path.is_file()
        }


def make_publisher(directory: Path) -> Publisher:
    """Make keys, a root and a publisher.toml."""
    publisher = Publisher(directory=directory)
    publisher.keys.generate()
    create_repository(publisher.repository, publisher.keys, now=datetime.now(UTC))
    lines = (
        f'{role} = ["file:keys/{role}-1.pem"]' for role in ("targets", "snapshot", "timestamp")
    )
    (directory / "publisher.toml").write_text("\n".join(("[keys]", *lines, "")))
    return publisher


@dataclass(slots=True, kw_only=True)
class Client:
    """A machine's TUF client, started anew each time with nothing but the first root."""

    repository: Path
    trusted_root: bytes
    scratch: Path
    count: int = 0

    def start(self, transport: Transport) -> Repository:
        """Return a client that has just refreshed."""
        self.count += 1
        base = self.repository.as_uri()
        client = Repository(
            trusted_root=self.trusted_root,
            cache=self.scratch / str(self.count),
            metadata_base_url=f"{base}/metadata",
            targets_base_url=f"{base}/targets",
            transport=transport,
        )
        client.refresh()
        return client


def read_everything(client: Repository) -> Manifest:
    """Read the manifest and every byte of every target that it names."""
    data = client.read(client.target("manifest.json"), max_length=1 << 22)
    manifest = parse_manifest(data)
    names = {
        name
        for update in manifest.updates
        for name in (update.images.boot, update.images.root, update.images.hash)
    } | {name for names in manifest.migrations.values() for name in names}
    for name in sorted(names):
        for _ in client.stream(client.target(name)):
            pass
    return manifest
