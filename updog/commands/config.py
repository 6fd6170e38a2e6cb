"""`updog config`: the settings in force."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import asdict

from signpost.commandline import shared_options
from updog.commands.output import print_json, print_result, wants_json
from updog.commands.settings import command, read_config
from updog.config import BASE_URLS, Config
from updog.proxies import without_password
from updog.versions import VersionLock


@command("config", example="updog config")
def config() -> None:
    """Print the settings in force: the configuration file with every default filled in.

    What is printed is a configuration file again, but for passwords in addresses, which are not
    shown. Settings that have no value are left out.
    """
    settings = read_config()
    facts = {
        name: _plain(value) for name, value in asdict(settings).items() if name != "version_lock"
    } | {"version_lock": str(settings.version_lock), **_addresses(settings)}
    if wants_json():
        print_json(facts)
    else:
        path = Path(shared_options()["config"]).absolute()
        print_result("\n".join([f"# read from {ascii(str(path))[1:-1]}", *_toml_lines(facts)]))


def _addresses(settings: Config) -> dict[str, Any]:
    """Return the addresses, without their passwords; one that stands alone as in the file."""
    proxy = settings.https_proxy
    several = {
        name: [without_password(url) for url in getattr(settings, name)] for name in BASE_URLS
    }
    single = {name: urls[0] if len(urls) == 1 else urls for name, urls in several.items()}
    return {**single, "https_proxy": without_password(proxy) if proxy else None}


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plain(inner) for key, inner in value.items()}
        case tuple() | list():
            return [_plain(inner) for inner in value]
        case Path() | VersionLock():
            return str(value)
        case msgspec.Struct():
            return _plain(asdict(value))
        case _:
            return value


def _toml_lines(facts: dict[str, Any]) -> list[str]:
    """Write TOML: the plain settings first, since after a table's name all belongs to the table.

    Tables in tables stand on one line.
    """
    tables = {name: value for name, value in facts.items() if isinstance(value, dict)}
    lines = _assignments({name: value for name, value in facts.items() if name not in tables})
    for name, table in tables.items():
        if inner := _assignments(table):
            lines += ["", f"[{name}]", *inner]
    return lines


def _assignments(facts: dict[str, Any]) -> list[str]:
    return [f"{name} = {_toml(value)}" for name, value in facts.items() if _is(value)]


def _toml(value: Any) -> str:
    """Write a value; strings of printable characters, booleans and lists look as in JSON."""
    match value:
        case dict():
            inner = (f"{_key(name)} = {_toml(each)}" for name, each in value.items() if _is(each))
            return f"{{ {', '.join(inner)} }}" if value else "{}"
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case _:
            return json.dumps(value, ensure_ascii=False)


def _is(value: Any) -> bool:
    return value is not None


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)
