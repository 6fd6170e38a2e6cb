"""`repo-tools simulate`: play a rollout over a fleet, as a table, a chart and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import click
from semver import Version

from repo_tools.durable import write_durably
from repo_tools.errors import RepoToolsError
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.options import print_line, publisher_option
from repo_tools.policy import load_policy
from repo_tools.rollout.curve import Curve
from repo_tools.rollout.facts import describe
from repo_tools.rollout.fleet import Fleet
from repo_tools.rollout.options import (
    fleet_options,
    parse_optional_version,
    parse_out,
    parse_size,
    parse_start,
)
from repo_tools.rollout.published import from_repository
from repo_tools.rollout.schedule import (
    Schedule,
    Traffic,
    from_wave_file,
)
from repo_tools.rollout.table import chart, summary, table
from repo_tools.telling import telling
from updog.units import size

_IMAGE_BYTES: Final = 250 << 20
"""What an update fetches, unless somebody knows better."""


@click.command(
    "simulate",
    epilog="""\b
Examples:
  repo-tools simulate
  repo-tools simulate waves.toml --hosts 50000 --image-bytes 400MiB --out rollout
  repo-tools simulate --version 1.2.0 --compare slower.toml --out rollout.svg

The model: seeds are random; each host checks after the interval and a random part of the
delay; outages and the times between them have exponentially distributed lengths, and a check
in one is missed; the first other check after a host's moment takes the update.""",
)
@click.argument("wave_file", metavar="[WAVEFILE]", type=click.Path(path_type=Path), required=False)
@click.option(
    "--version",
    metavar="VERSION",
    callback=parse_optional_version,
    help="Play the waves of this published update, with the sizes of its images.",
)
@publisher_option
@click.option(
    "--repository",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Look for the version in this repository, not in the publisher's.",
)
@click.option(
    "--compare",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Play this wave file too, with the same hosts.",
)
@fleet_options
@click.option(
    "--image-bytes",
    callback=parse_size,
    metavar="SIZE",
    help="What one update fetches.  [default: 250MiB, or what is published]",
)
@click.option(
    "--start",
    callback=parse_start,
    metavar="TIME",
    help="When the rollout is published.  [default: now, or when a published one began]",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of the random numbers; the same one gives the same result.",
)
@click.option(
    "--out",
    "pictures",
    type=click.Path(path_type=Path),
    callback=parse_out,
    metavar="FILE",
    help="Draw it too: FILE.svg or FILE.png, or both for a FILE without an ending.",
)
def simulate(
    *,
    version: Version | None,
    compare: Path | None,
    seed: int,
    pictures: tuple[Path, ...],
    **options: Any,
) -> None:
    """Play a rollout over a fleet and show what it does to hosts and servers.

    The rollout is that of WAVEFILE, or of a published --version, or else the default one. When
    each seed is let in is what the agent's own code says.
    """
    source = _Source(**{name: options.pop(name) for name in _Source.__dataclass_fields__})
    fleet = Fleet(**options)
    schedules = _schedules(source, version, compare)
    curves = _play(fleet, schedules, seed=seed)
    if wants_json():
        print_json(describe(fleet, curves, seed=seed))
    else:
        _show(fleet, curves)
    _draw(curves, pictures, title="; ".join(fleet.sentences()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Where the first schedule comes from; fields are options."""

    wave_file: Path | None
    publisher: Path
    repository: Path | None
    image_bytes: int | None
    start: datetime | None


def _schedules(
    source: _Source, version: Version | None, compare: Path | None
) -> tuple[Schedule, ...]:
    first = _written(source) if version is None else _published(source, version)
    if compare is None:
        return (first,)
    second = from_wave_file(compare, start=first.start, traffic=first.traffic)
    if second.name == first.name:
        second = replace(second, name=f"{second.name} (compared)")
    return first, second


def _written(source: _Source) -> Schedule:
    if source.repository is not None:
        raise click.UsageError("--repository needs a --version to look for in it")
    amount = _IMAGE_BYTES if source.image_bytes is None else source.image_bytes
    path = source.wave_file or Path(str(files("repo_tools") / "waves" / "default.toml"))
    start = source.start or datetime.now(UTC)
    return from_wave_file(path, start=start, traffic=Traffic(update_bytes=amount))


def _published(source: _Source, version: Version) -> Schedule:
    if source.wave_file is not None:
        raise click.UsageError("WAVEFILE and --version are two rollouts: give one by --compare")
    return from_repository(
        source.repository or load_policy(source.publisher).repository,
        version,
        start=source.start,
        update_bytes=source.image_bytes,
    )


def _play(fleet: Fleet, schedules: Sequence[Schedule], *, seed: int) -> tuple[Curve, ...]:
    try:
        from repo_tools.rollout.play import play  # noqa: PLC0415 -- needs an extra
    except ModuleNotFoundError as error:
        raise _missing("simulate", error, extra="simulation", library="numpy") from error
    return play(fleet, schedules, fleet.axis(schedules), seed=seed)


def _draw(curves: Sequence[Curve], pictures: Sequence[Path], *, title: str) -> None:
    if not pictures:
        return
    try:
        from repo_tools.rollout.picture import draw  # noqa: PLC0415 -- needs an extra
    except ModuleNotFoundError as error:
        raise _missing("draw", error, extra="plots", library="matplotlib") from error
    for path in pictures:
        with telling("write", path, left="it is as it was, pictures before it stay"):
            write_durably(path, draw(curves, title=title, form=path.suffix[1:]))
    if not wants_json():
        print_line("Pictures", ", ".join(str(path) for path in pictures))


def _missing(
    doing: str, error: ModuleNotFoundError, *, extra: str, library: str
) -> RepoToolsError | ModuleNotFoundError:
    """Return what to raise: how to get an optional library, unless another one is missing."""
    if error.name is None or error.name.split(".")[0] != library:
        return error
    return RepoToolsError(
        f"cannot {doing}: {library} is not installed; `pip install 'ab-updog[{extra}]'` brings it"
    )


def _show(fleet: Fleet, curves: Sequence[Curve]) -> None:
    for label, text in zip(("Fleet", "Offline"), fleet.sentences(), strict=False):
        print_line(label, text)
    for curve in curves:
        print_line("Rollout", _describe(curve.schedule))
    for lines in (table(curves), chart(curves)):
        click.echo()
        for line in lines:
            click.echo(line)
    for curve in curves:
        click.echo()
        if len(curves) > 1:
            print_line("Rollout", curve.schedule.name)
        for label, text in summary(curve):
            _print_wrapped(label, text)


def _print_wrapped(label: str, text: str) -> None:
    click.echo(
        click.wrap_text(text, width=80, initial_indent=f"{label:<10} ", subsequent_indent=" " * 11)
    )


def _describe(schedule: Schedule) -> str:
    count = len(schedule.marks())
    waves = "no waves" if not count else "1 wave" if count == 1 else f"{count} waves"
    return f"{schedule.name}: {waves}, {size(schedule.traffic.update_bytes)} an update"
