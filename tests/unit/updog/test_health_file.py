"""What a boot told of its health outlives it, and never decides about another one."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from signpost.sets import SetName
from tests.unit.updog.test_health import FAILED, a_record
from updog.errors import UpdogError
from updog.health_file import forget_health, health_file, note_health, read_health, write_health


def test_each_set_keeps_what_its_last_boot_told(directory: Path) -> None:
    failed = a_record(FAILED)
    write_health(directory, failed)
    write_health(directory, replace(a_record(), set=SetName.A))
    assert read_health(directory, SetName.B) == failed


def test_a_set_that_is_written_anew_has_told_nothing(directory: Path) -> None:
    write_health(directory, a_record(FAILED))
    forget_health(directory, SetName.B)
    assert read_health(directory, SetName.B) is None
    forget_health(directory, SetName.B)


def test_what_cannot_be_written_is_an_error_but_decides_nothing(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = directory / "file"
    state.touch()
    with pytest.raises(UpdogError, match="cannot write"):
        write_health(state, a_record())
    note_health(state, a_record())


@pytest.mark.parametrize("data", [b"", b"{", b'{"time": 1}', b"[" * 100_000])
def test_what_a_cut_tore_is_no_record(directory: Path, data: bytes) -> None:
    health_file(directory, SetName.A).write_bytes(data)
    assert read_health(directory, SetName.A) is None
