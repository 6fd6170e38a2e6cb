from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo_tools.errors import RepoToolsError
from repo_tools.wavefile import load_wave_file, parse_wave_file
from updog.waves import SEEDS, Wave

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def a_wave_file(*stages: tuple[object, object]) -> str:
    return "\n".join(
        f"[[waves]]\nstart_after = {start!r}\nfleet_percentage = {percentage}"
        for start, percentage in stages
    )


def error_of(text: str) -> str:
    with pytest.raises(RepoToolsError) as caught:
        parse_wave_file(text, start=START)
    return str(caught.value)


def test_each_wave_begins_at_the_seed_where_the_one_before_it_ended() -> None:
    percentages = [1, 5, 15, 40, 60, 90, 100]
    text = a_wave_file(*((f"{hour} hours", share) for hour, share in enumerate(percentages)))
    bounds = [wave.bound for wave in parse_wave_file(text, start=START)]
    assert bounds == [0, 20, 102, 307, 819, 1228, 1843]


def test_relative_times_count_from_the_start_and_absolute_ones_do_not() -> None:
    text = a_wave_file(
        ("30 minutes", 10), ("in 1 hour", 20), ("2 days", 30), ("2026-03-01T00:00:00+01:00", 100)
    )
    assert [wave.starts_at for wave in parse_wave_file(text, start=START)] == [
        START + timedelta(minutes=30),
        START + timedelta(hours=1),
        START + timedelta(days=2),
        datetime(2026, 2, 28, 23, tzinfo=UTC),
    ]


def test_a_toml_time_does_as_well_as_a_quoted_one() -> None:
    text = "[[waves]]\nstart_after = 2026-03-01T00:00:00Z\nfleet_percentage = 100"
    (wave,) = parse_wave_file(text, start=START)
    assert wave == Wave(bound=0, starts_at=datetime(2026, 3, 1, tzinfo=UTC))


@given(st.integers(1, 99))
def test_the_second_bound_is_that_share_of_the_seeds_cut_to_a_whole_number(share: int) -> None:
    waves = parse_wave_file(a_wave_file(("1 hour", share), ("2 hours", 100)), start=START)
    assert waves[1].bound == int(share / 100 * SEEDS)


def test_the_shipped_rollout_takes_six_days() -> None:
    path = Path(str(files("repo_tools") / "waves" / "default.toml"))
    waves = load_wave_file(path, start=START)
    assert [wave.bound for wave in waves] == [0, 20, 102, 307, 819, 1228, 1843]
    assert waves[-1].starts_at == START + timedelta(days=6)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            [("1 hour", 40), ("2 hours", 40), ("3 hours", 100)],
            "wave 2: fleet_percentage 40 must be greater than the 40 of wave 1: shares add up",
        ),
        (
            [("1 hour", 40), ("2 hours", 99)],
            "the last wave reaches 99 % of the fleet: it must reach 100",
        ),
        ([("2 hours", 40), ("1 hour", 100)], "wave 2 starts before wave 1"),
        (
            [("1 hour", 101)],
            "wave 1: fleet_percentage must be a whole number from 1 to 100, not 101",
        ),
        (
            [("1 hour", "true")],
            "wave 1: fleet_percentage must be a whole number from 1 to 100, not True",
        ),
        (
            [("soon", 100)],
            (
                "wave 1: start_after must be like '4 hours', 'in 2 days' or "
                "'2026-01-31T12:00:00Z', not soon"
            ),
        ),
        (
            [("2026-02-30T12:00:00Z", 100)],
            "wave 1: there is no such time as 2026-02-30T12:00:00Z",
        ),
        ([("999999 weeks", 100)], "wave 1: start_after lies beyond the year 9999"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(
    stages: list[tuple[object, object]], message: str
) -> None:
    assert error_of(a_wave_file(*stages)) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no [[waves]] table"),
        ("waves = [1]", "wave 1 is not a table: write [[waves]] above it"),
        ("[[wave]]", "the file has the unknown key 'wave' (known: waves)"),
        (
            "[[waves]]\nstart_after = '1 hour'\nfleet_percent = 100",
            "wave 1 has the unknown key 'fleet_percent' (known: fleet_percentage and start_after)",
        ),
        ("[[waves]]\nfleet_percentage = 100", "wave 1 lacks start_after"),
    ],
)
def test_a_file_of_another_shape_is_refused(text: str, message: str) -> None:
    assert error_of(text) == message


def test_the_file_is_named_in_its_errors(tmp_path: Path) -> None:
    path = tmp_path / "waves.toml"
    with pytest.raises(RepoToolsError, match=r"cannot read wave file .*: No such file"):
        load_wave_file(path, start=START)
    path.write_text("[[waves]")
    with pytest.raises(RepoToolsError, match=r"wave file .*waves\.toml: not TOML: "):
        load_wave_file(path, start=START)
