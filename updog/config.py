"""The agent's settings: a TOML file turned into one frozen `Config`.

Decides what each setting means and refuses everything that it does not know or cannot use, naming
the setting. Opens no file but the configuration: whether a path in it exists is for its user to
find out.
"""

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args
from urllib.parse import unquote

import msgspec

from signpost.sets import SetName
from updog.errors import ConfigError
from updog.files import read_small_text
from updog.health import Limits, Reaction
from updog.names import quoted
from updog.proxies import is_web_address, without_user
from updog.schedule import Day, Strategy, parse_clock
from updog.versions import LATEST, VersionLock, parse_version_lock
from updog.waves import SEEDS, Seed

_MOST_BYTES = 1 << 20

_SLOWEST_BYTES_PER_SECOND = 1024
_LONGEST_CHECK_SECONDS = 3600
_MOST_RETRIES = 1000

BASE_URLS = ("metadata_base_url", "targets_base_url")
"""The settings that may hold one address, or a list of them."""

# How tomllib words a key, or a table, that stands there twice.
_DUPLICATE = re.compile(
    r"Cannot (?:overwrite a value|declare .* twice)(?P<where> \(at .*\))", re.DOTALL
)

# How msgspec words a value that does not fit, and a missing one.
_MISFIT = re.compile(r"(?P<why>.*) - at `\$\.(?P<where>.*)`")
_MISSING = re.compile(
    r"Object missing required field `(?P<key>[^`]*)`(?: - at `\$\.(?P<where>.*)`)?"
)

_EXAMPLES = {
    "metadata_base_url": '"https://updates.example/metadata"',
    "targets_base_url": '"https://updates.example/targets"',
    "begin": '"02:00"',
    "end": '"04:30"',
    "seed": "1311 (a number from 0 to 2047, drawn once for each machine)",
}


class Paths(msgspec.Struct, frozen=True, kw_only=True):
    """Where the agent finds and keeps its files."""

    trusted_root: Path = Path("/usr/share/updog/root.json")
    metadata_cache: Path = Path("/var/cache/bottlerocket-metadata")
    migrations: Path = Path("/var/lib/bottlerocket-migrations")
    state: Path = Path("/var/lib/updog")
    os_release: Path = Path("/etc/os-release")
    boot_id: Path = Path("/proc/sys/kernel/random/boot_id")
    health: tuple[Path, ...] = (
        Path("/etc/signpost/health.d"),
        Path("/usr/lib/signpost/health.d"),
    )
    holds: tuple[Path, ...] = (Path("/etc/updog/hold.d"), Path("/run/updog/hold.d"))


class DiskSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which disk to update and which of its sets runs; None is to be found out from the system.

    `active_file` holds the name of the running set, as left there by whatever booted the machine.
    """

    path: Path | None = None
    active: SetName | None = None
    active_file: Path | None = None


class RebootSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to restart the machine, and when `updog auto` does.

    `command` is the absolute path of a program, and its arguments.
    """

    command: tuple[str, ...] = ("/usr/bin/systemctl", "reboot")
    strategy: Strategy = Strategy.MANUAL


class AutoSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Whether `updog auto` does anything at all, and whether it installs in the windows only."""

    enabled: bool = True
    install_in_windows: bool = False


class WindowSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A maintenance window, as it is written: `begin` and `end` are times of day like `02:30`."""

    begin: str
    end: str
    days: tuple[Day, ...] = tuple(Day)
    time_zone: str = "UTC"


class CheckSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one health check; None is what counts for all."""

    timeout_seconds: float | None = None
    retries: int | None = None
    retry_after_seconds: float | None = None


class HealthSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of health checks, and what a boot on trial does when a required one fails."""

    timeout_seconds: float = 60.0
    retries: int = 0
    retry_after_seconds: float = 5.0
    on_failed_trial: Reaction = Reaction.REBOOT
    checks: Mapping[str, CheckSettings] = msgspec.field(default_factory=dict)

    def limits(self, name: str) -> Limits:
        """Return the limits of a check."""
        own = self.checks.get(name, CheckSettings())
        return Limits(
            timeout_seconds=_first(own.timeout_seconds, self.timeout_seconds),
            retries=_first(own.retries, self.retries),
            retry_after_seconds=_first(own.retry_after_seconds, self.retry_after_seconds),
        )


_Number = TypeVar("_Number", int, float)


def _first(own: _Number | None, common: _Number) -> _Number:
    return common if own is None else own


class NetworkSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to trust on TLS connections, as whom to appear there, how fast, and what to tell.

    With a `ca_file` no other CA counts. `report_version_and_seed` adds both to every request.
    """

    ca_file: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    max_bytes_per_second: int | None = None
    report_version_and_seed: bool = False


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of the agent, checked, under the names that they have in the file.

    Of the base addresses each may be one of several mirrors, tried in order. The proxy serves
    `http:` and `https:` addresses alike, except those of the hosts in `no_proxy`.
    """

    metadata_base_url: tuple[str, ...]
    targets_base_url: tuple[str, ...]
    seed: Seed
    version_lock: VersionLock = LATEST
    ignore_waves: bool = False
    https_proxy: str | None = None
    no_proxy: tuple[str, ...] = ()
    paths: Paths = msgspec.field(default_factory=Paths)
    disk: DiskSettings = msgspec.field(default_factory=DiskSettings)
    network: NetworkSettings = msgspec.field(default_factory=NetworkSettings)
    auto: AutoSettings = msgspec.field(default_factory=AutoSettings)
    windows: tuple[WindowSettings, ...] = ()
    reboot: RebootSettings = msgspec.field(default_factory=RebootSettings)
    health: HealthSettings = msgspec.field(default_factory=HealthSettings)


def load_config(path: Path) -> Config:
    """Read and check a configuration file.

    Relative paths in it start from the directory that it lies in.

    Raises:
        ConfigError: It cannot be read, is not TOML, or holds a key or a value that cannot be used.
    """
    try:
        return _parse(_parse_toml(_read(path)), path.absolute().parent)
    except (ValueError, RecursionError) as err:
        raise ConfigError(f"configuration {path}: {err}") from err


def _read(path: Path) -> str:
    try:
        return read_small_text(path, limit_bytes=_MOST_BYTES)
    except OSError as err:
        raise ConfigError(
            f"cannot read configuration {path}: {err.strerror}; give --config or UPDOG_CONFIG"
        ) from err


def _parse_toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        if twice := _DUPLICATE.fullmatch(str(err)):
            raise ValueError(f"a setting stands there twice{twice['where']}; keep one") from err
        raise


def _parse(table: dict[str, Any], directory: Path) -> Config:
    _refuse_unknown_keys(table, Config)
    _refuse_unprintable(table)
    _list_single_addresses(table)
    lock = _parse_lock(table.pop("version_lock", "latest"))
    config = msgspec.structs.replace(_convert(table, directory), version_lock=lock)
    _check(config)
    return config


def _refuse_unknown_keys(table: Mapping[str, Any], shape: type, prefix: str = "") -> None:
    """Refuse keys that the struct `shape` has no field for, in inner tables too."""
    known = {each.name: each.type for each in msgspec.structs.fields(shape)}
    for key, value in table.items():
        if key not in known:
            raise ValueError(_unknown_key(prefix, key, list(known)))
        for where, inner, inner_shape in _inner_tables(key, value, known[key]):
            _refuse_unknown_keys(inner, inner_shape, f"{prefix}{where}.")


def _inner_tables(key: str, value: object, kind: Any) -> Iterator[tuple[str, dict[str, Any], type]]:
    """Go through the tables that a setting holds: itself, those of a list, those under any name."""
    if _is_shape(kind):
        if isinstance(value, dict):
            yield key, value, kind
        return
    shapes = [each for each in get_args(kind) if _is_shape(each)]
    if not shapes or not isinstance(value, dict | list):
        return
    named = value.items() if isinstance(value, dict) else enumerate(value, 1)
    for name, inner in named:
        if isinstance(inner, dict):
            yield f"{key}.{name}", inner, shapes[0]


def _is_shape(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _unknown_key(prefix: str, key: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {prefix}{nearest[0]}?" if nearest else f"there are {', '.join(known)}"
    return f"unknown setting {quoted(prefix + key)}; {hint}"


def _refuse_unprintable(value: object, where: str = "") -> None:
    """Refuse what no path, address or version may hold and no terminal should be sent."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_unprintable(inner, f"{where}.{key}" if where else key)
    elif isinstance(value, list):
        for inner in value:
            _refuse_unprintable(inner, where)
    elif isinstance(value, str) and not value.isprintable():
        raise ValueError(
            f"{where} holds a character that cannot be shown: {quoted(value)}; remove it"
        )


def _list_single_addresses(table: dict[str, Any]) -> None:
    """Put an address that stands alone into a list, as several would stand."""
    for key in BASE_URLS:
        if isinstance(table.get(key), str):
            table[key] = [table[key]]


def _parse_lock(value: object) -> VersionLock:
    try:
        return parse_version_lock(msgspec.convert(value, str))
    except (msgspec.ValidationError, ValueError) as err:
        raise ValueError(f"version_lock: {_plain(str(err))}") from err


def _convert(table: dict[str, Any], directory: Path) -> Config:
    """Turn the table into a Config by the types of its fields."""

    def resolve(kind: type, value: object) -> object:
        if kind is not Path:
            # How msgspec is told that a hook knows no such type.
            raise NotImplementedError(kind)
        return directory / _path_text(value)

    try:
        return msgspec.convert(table, Config, dec_hook=resolve)
    except msgspec.ValidationError as err:
        raise ValueError(_explain(str(err))) from err


def _path_text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
    if not value:
        raise ValueError("is empty; give a path or leave the line out")
    return value


def _explain(message: str) -> str:
    """Reword msgspec's message: the setting first, and what to write where it is missing."""
    if missing := _MISSING.fullmatch(message):
        key, where = missing["key"], missing["where"]
        whole = f"{where}.{key}" if where else key
        return f"{whole} is missing; add a line like {key} = {_EXAMPLES[key]}"
    if misfit := _MISFIT.fullmatch(message):
        return f"{misfit['where']}: {_plain(misfit['why'])}"
    return message


def _plain(message: str) -> str:
    return message.replace("`", "").replace("Expected", "expected")


def _check(config: Config) -> None:
    """Refuse values of the right type that cannot work."""
    _check_base_urls("metadata_base_url", config.metadata_base_url)
    _check_base_urls("targets_base_url", config.targets_base_url)
    _check_proxy(config.https_proxy)
    _check_seed(config.seed)
    _check_disk(config.disk)
    _check_network(config.network)
    _check_windows(config)
    _check_reboot(config.reboot)
    _check_health(config.health)


def _check_base_urls(key: str, urls: tuple[str, ...]) -> None:
    if not urls:
        raise ValueError(f"{key} is empty; write an address like {_EXAMPLES[key]}")
    for url in urls:
        _check_base_url(key, url)


def _check_base_url(key: str, url: str) -> None:
    shown = quoted(without_user(url))
    if not (is_web_address(url) or _is_file_address(url)):
        raise ValueError(
            f"{key}: {shown} is no address of a directory; "
            "write https://HOST/DIRECTORY, http://HOST/DIRECTORY or file:///DIRECTORY"
        )
    if "?" in url or "#" in url:
        raise ValueError(f"{key}: {shown} holds a query or a fragment; remove it")


def _is_file_address(url: str) -> bool:
    return url.startswith("file:///") and "\0" not in unquote(url)


def _check_proxy(url: str | None) -> None:
    if url is not None and not is_web_address(url):
        shown = quoted(without_user(url))
        raise ValueError(f"https_proxy: {shown} is no proxy; write http://HOST:PORT")


def _check_seed(seed: int) -> None:
    if not 0 <= seed < SEEDS:
        raise ValueError(f"seed is {seed}; it must be from 0 to {SEEDS - 1}")


def _check_disk(disk: DiskSettings) -> None:
    if disk.active is not None and disk.active_file is not None:
        raise ValueError("disk.active and disk.active_file both say what runs; keep one")


def _check_network(network: NetworkSettings) -> None:
    if (network.client_certificate is None) != (network.client_key is None):
        raise ValueError(
            "network.client_certificate and network.client_key belong together; give both or none"
        )
    limit = network.max_bytes_per_second
    if limit is not None and limit < _SLOWEST_BYTES_PER_SECOND:
        raise ValueError(
            f"network.max_bytes_per_second is {limit}; it must be at least "
            f"{_SLOWEST_BYTES_PER_SECOND}, or left out"
        )


def _check_windows(config: Config) -> None:
    for number, window in enumerate(config.windows, 1):
        for name, text in (("begin", window.begin), ("end", window.end)):
            try:
                parse_clock(text)
            except ValueError as err:
                raise ValueError(f"windows.{number}.{name} is {quoted(text)}; {err}") from err
        if not window.days:
            raise ValueError(f"windows.{number}.days is empty; name a day, or leave the line out")
    if config.windows:
        return
    if config.reboot.strategy is Strategy.WINDOW:
        raise ValueError('reboot.strategy is "window", but there is no window; add [[windows]]')
    if config.auto.install_in_windows:
        raise ValueError("auto.install_in_windows is set, but there is no window; add [[windows]]")


def _check_health(health: HealthSettings) -> None:
    """Refuse limits that are none."""
    _check_limits("health", health)
    for name, own in health.checks.items():
        _check_limits(f"health.checks.{quoted(name)}", own)


def _check_limits(where: str, limits: HealthSettings | CheckSettings) -> None:
    timeout, retries, pause = limits.timeout_seconds, limits.retries, limits.retry_after_seconds
    if timeout is not None and not 0 < timeout <= _LONGEST_CHECK_SECONDS:
        raise ValueError(
            f"{where}.timeout_seconds is {timeout}; it must be above 0 and at most "
            f"{_LONGEST_CHECK_SECONDS}"
        )
    if retries is not None and not 0 <= retries <= _MOST_RETRIES:
        raise ValueError(f"{where}.retries is {retries}; it must be from 0 to {_MOST_RETRIES}")
    if pause is not None and not 0 <= pause <= _LONGEST_CHECK_SECONDS:
        raise ValueError(
            f"{where}.retry_after_seconds is {pause}; it must be from 0 to {_LONGEST_CHECK_SECONDS}"
        )


def _check_reboot(reboot: RebootSettings) -> None:
    if not reboot.command or not Path(reboot.command[0]).is_absolute():
        raise ValueError(
            "reboot.command must begin with the absolute path of a program, "
            'like ["/usr/bin/systemctl", "reboot"]'
        )
