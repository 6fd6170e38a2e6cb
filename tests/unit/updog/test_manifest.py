import json
import tracemalloc
from contextlib import suppress
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semver import Version

from tests.helpers.updates import START, a_manifest, an_update, hours
from updog.errors import ManifestError
from updog.manifest import (
    MAX_MANIFEST_BYTES,
    Images,
    Manifest,
    Update,
    format_time,
    parse_manifest,
    parse_time,
    serialise,
)
from updog.waves import SEEDS, Wave

SAMPLE: dict[str, Any] = {
    "updates": [
        {
            "variant": "aws-k8s-1.30",
            "arch": "x86_64",
            "version": "1.26.1",
            "max_version": "1.27.0",
            "waves": {"20": "2030-01-01T03:00:00Z", "0": "2030-01-01T00:00:00Z"},
            "images": {"boot": "b.ext4.lz4", "root": "r.ext4.lz4", "hash": "r.verity.lz4"},
        }
    ],
    "migrations": {"(1.25.0, 1.26.0)": ["migrate_v1.26.0_x.lz4"], "(1.26.0, 1.26.1)": []},
}


def sample(**changes: object) -> bytes:
    """Return the sample with fields of its only update replaced."""
    document = deepcopy(SAMPLE)
    document["updates"][0] |= changes
    return json.dumps(document).encode()


def sample_with(**changes: object) -> bytes:
    """Return the sample with top-level fields replaced."""
    return json.dumps(SAMPLE | changes).encode()


def refusal(data: bytes) -> str:
    """Return what is wrong, without the words that every refusal begins and ends with."""
    with pytest.raises(ManifestError) as caught:
        parse_manifest(data)
    text = str(caught.value)
    assert text.isascii()
    assert text.isprintable()
    start, end = "manifest.json: ", "; nothing was chosen from it, the publisher must correct it"
    assert text.startswith(start)
    assert text.endswith(end)
    return text.removeprefix(start).removesuffix(end)


def test_a_manifest_is_read_with_its_waves_in_order() -> None:
    manifest = parse_manifest(sample())
    assert manifest.updates == (
        Update(
            variant="aws-k8s-1.30",
            arch="x86_64",
            version=Version(1, 26, 1),
            max_version=Version(1, 27, 0),
            waves=(Wave(bound=0, starts_at=START), Wave(bound=20, starts_at=hours(3))),
            images=Images(boot="b.ext4.lz4", root="r.ext4.lz4", hash="r.verity.lz4"),
        ),
    )
    assert manifest.migrations == {
        (Version(1, 25, 0), Version(1, 26, 0)): ("migrate_v1.26.0_x.lz4",),
        (Version(1, 26, 0), Version(1, 26, 1)): (),
    }


def test_fields_that_are_not_known_are_ignored() -> None:
    assert parse_manifest(sample(size=3, notes={"en": "x"})) == parse_manifest(sample())
    assert parse_manifest(sample_with(comment=[1, 2])) == parse_manifest(sample())


def test_waves_and_migrations_may_be_left_out() -> None:
    document = deepcopy(SAMPLE)
    del document["updates"][0]["waves"], document["migrations"]
    manifest = parse_manifest(json.dumps(document).encode())
    assert manifest.updates[0].waves == ()
    assert manifest.migrations == {}


def test_an_unknown_architecture_does_not_spoil_the_manifest() -> None:
    assert parse_manifest(sample(arch="riscv64")).updates[0].arch == "riscv64"


def test_the_migrations_of_a_manifest_cannot_be_changed() -> None:
    migrations = parse_manifest(sample()).migrations
    with pytest.raises(TypeError):
        migrations[Version(1), Version(2)] = ()  # type: ignore[index]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "is not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"{} x", "is not JSON: Extra data: line 1 column 4 (char 3)"),
        (b"[]", "Expected object, got array"),
        (b"{}", "Object missing required field updates"),
        (b'{"updates": {}}', "Expected array, got object - at $.updates"),
        (b'{"updates": NaN}', "NaN is not JSON"),
    ],
)
def test_what_is_no_manifest_is_refused(data: bytes, expected: str) -> None:
    assert refusal(data) == expected


@pytest.mark.parametrize("data", [b"\xff", '{"updates": []}'.encode("utf-16"), b"9" * 5000])
def test_what_no_decoder_should_guess_at_is_refused(data: bytes) -> None:
    refusal(data)


def test_a_lone_surrogate_is_refused() -> None:
    refusal(b'{"updates": [], "\\ud800": 1}')
    refusal(sample(variant="\ud800"))


@pytest.mark.parametrize(
    "data",
    [
        b'{"updates": [], "updates": []}',
        b'{"updates": [], "x": {"updates": 1, "updates": 2}}',
        b'{"updates": [], "up\\u0064ates": []}',
    ],
)
def test_a_key_that_occurs_twice_is_refused_wherever_it_stands(data: bytes) -> None:
    assert refusal(data) == "key 'updates' occurs twice"


def test_a_manifest_of_4_mib_is_read_and_a_byte_more_refused() -> None:
    full = sample().ljust(MAX_MANIFEST_BYTES)
    parse_manifest(full)
    assert refusal(full + b" ") == "holds 4194305 bytes, at most 4194304 are accepted"


def filled(unit: bytes, count: int) -> bytes:
    """Return a manifest with so many of a value in an unknown field."""
    return b'{"updates": [], "x": [' + b",".join([unit] * count) + b"]}"


@pytest.mark.parametrize("unit", [b"[]", b"{}"])
def test_200_000_brackets_are_read_and_one_more_is_refused(unit: bytes) -> None:
    around = 3
    parse_manifest(filled(unit, 200_000 - around))
    assert refusal(filled(unit, 200_001 - around)) == (
        "holds more than 200000 opening brackets and braces"
    )


@pytest.mark.parametrize("unit", [b"[]", b"{}", b"0.5", b'"ab"', b"1000", b'{"a":[]}'])
def test_no_manifest_takes_a_small_machines_memory(unit: bytes) -> None:
    data = filled(unit, (MAX_MANIFEST_BYTES - 24) // (len(unit) + 1))
    tracemalloc.start()
    try:
        with suppress(ManifestError):
            parse_manifest(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 80 << 20


def nested(levels: int) -> bytes:
    """Return a manifest, which is one level, with an unknown field of the others."""
    return b'{"updates": [], "x": ' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


def test_32_levels_are_read_and_one_more_is_refused() -> None:
    parse_manifest(nested(32))
    assert refusal(nested(33)) == "is nested more than 32 levels deep"


def test_a_nesting_that_exhausts_the_decoder_is_refused() -> None:
    assert refusal(nested(199_000)) == "is nested more than 32 levels deep"


def test_too_many_updates_or_migrations_are_refused() -> None:
    images = {"boot": "b", "root": "r", "hash": "h"}
    update = {"variant": "v", "arch": "a", "version": "1.0.0", "max_version": "1.0.0"}
    updates = [update | {"images": images}] * 20_001
    assert refusal(sample_with(updates=updates)) == (
        "lists 20001 updates, at most 20000 are accepted"
    )
    steps: dict[str, list[str]] = {f"(0.0.{number}, 1.0.0)": [] for number in range(20_001)}
    assert refusal(sample_with(migrations=steps)) == (
        "lists 20001 steps in migrations, at most 20000 are accepted"
    )
    names = {"(1.0.0, 1.1.0)": ["x"] * 1001}
    assert refusal(sample_with(migrations=names)) == (
        "migrations '(1.0.0, 1.1.0)': lists 1001 migrations, at most 1000 are accepted"
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"version": "1.2"}, "version: '1.2' is not a version; write it like 1.2.0"),
        ({"max_version": "v1.2.0"}, "max_version: 'v1.2.0' is not a version; write it like 1.2.0"),
        ({"variant": "a b"}, "variant: 'a b' is not made of letters, digits, dots and dashes"),
        ({"arch": "\x1b[2J"}, r"arch: '\x1b[2J' is not made of letters, digits, dots and dashes"),
    ],
)
def test_a_field_with_a_wrong_value_is_named(changes: dict[str, object], expected: str) -> None:
    assert refusal(sample(**changes)) == f"updates[0]: {expected}"


@pytest.mark.parametrize("name", ["", "../r", "/r", "d/r", ".r", "r\n", "r\x00", "x" * 202])
@pytest.mark.parametrize("role", ["boot", "root", "hash"])
def test_an_image_name_that_is_no_flat_file_name_is_refused(role: str, name: str) -> None:
    images = SAMPLE["updates"][0]["images"] | {role: name}
    text = refusal(sample(images=images))
    assert text.startswith(f"updates[0]: images: {role}: ")
    assert text.endswith("is no flat file name of letters, digits and . _ + -")


@pytest.mark.parametrize(("one", "other"), [("boot", "root"), ("boot", "hash"), ("root", "hash")])
def test_a_target_in_two_roles_is_refused(one: str, other: str) -> None:
    images = SAMPLE["updates"][0]["images"]
    assert refusal(sample(images=images | {one: images[other]})) == (
        "updates[0]: images: boot, root and hash must be three different targets"
    )


def test_a_value_of_another_type_is_named_by_its_place() -> None:
    assert refusal(sample(version=3)) == "Expected str, got int - at $.updates[0].version"


def test_a_version_that_is_listed_twice_is_refused() -> None:
    update = SAMPLE["updates"][0]
    expected = "version 1.26.1 of aws-k8s-1.30 for x86_64 is listed twice"
    assert refusal(sample_with(updates=[update, update])) == expected
    other_arch = update | {"arch": "aarch64"}
    parse_manifest(sample_with(updates=[update, other_arch]))


@pytest.mark.parametrize("bound", ["0", "1", "2047", "2048"])
def test_a_bound_may_be_any_from_0_to_2048(bound: str) -> None:
    waves = parse_manifest(sample(waves={bound: "2030-01-01T00:00:00Z"})).updates[0].waves
    assert waves == (Wave(bound=int(bound), starts_at=START),)


@pytest.mark.parametrize("bound", ["2049", "99999", "-1", "+1", "01", " 1", "1.0", "", "٣", "1_0"])
def test_other_bounds_are_refused(bound: str) -> None:
    text = refusal(sample(waves={bound: "2030-01-01T00:00:00Z"}))
    assert text.startswith("updates[0]: waves: bound '")
    assert text.endswith("' is no number from 0 to 2048")


def test_waves_out_of_order_are_refused() -> None:
    waves = {"0": "2030-01-01T00:00:01Z", "20": "2030-01-01T00:00:00Z"}
    assert refusal(sample(waves=waves)) == "updates[0]: waves: bound 20 starts before bound 0"


def test_waves_of_the_same_time_are_in_order() -> None:
    parse_manifest(sample(waves=dict.fromkeys(["0", "20"], "2030-01-01T00:00:00Z")))


@pytest.mark.parametrize(
    "text",
    [
        "2030-01-01T00:00:00Z",
        "2030-01-01t00:00:00z",
        "2030-01-01T02:00:00+02:00",
        "2029-12-31T23:30:00-00:30",
        "2030-01-01T00:00:00.000000999Z",
    ],
)
def test_a_time_is_read_in_every_form_that_the_standard_has(text: str) -> None:
    assert parse_time(text) == START
    assert parse_time(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    ["", "2030-01-01", "2030-01-01T00:00:00", "2030-01-01 00:00:00Z", "20300101T000000Z",
     "2030-01-01T00:00:00Z\n", "2030-W01-1T00:00:00Z", "٢030-01-01T00:00:00Z"],
)  # fmt: skip
def test_another_form_of_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is no time; write it like 2030-01-31T19:00:00Z"):
        parse_time(text)


@pytest.mark.parametrize(
    "text",
    ["2030-13-01T00:00:00Z", "2030-02-30T00:00:00Z", "2030-01-01T24:30:00Z",
     "2030-01-01T00:00:60Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00",
     "9999-12-31T23:59:59-14:00", "2030-01-01T00:00:00+24:00"],
)  # fmt: skip
def test_a_time_that_there_is_not_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is a time that no calendar holds"):
        parse_time(text)


@pytest.mark.parametrize(
    "key", ["", "1.0.0, 1.1.0", "(1.0.0)", "(1.0.0, 1.1.0, 1.2.0)", "(1.0.0, 1.1.0)\n", "(a b, c)"]
)
def test_a_migration_step_of_another_form_is_refused(key: str) -> None:
    text = refusal(sample_with(migrations={key: []}))
    assert text == f"migrations: {key!r} is no step; it must look like (1.0.0, 1.1.0)"


@pytest.mark.parametrize("key", ["(1.1.0, 1.0.0)", "(1.0.0, 1.0.0)"])
def test_a_migration_step_that_leads_nowhere_is_refused(key: str) -> None:
    text = refusal(sample_with(migrations={key: []}))
    assert text == f"migrations: '{key}' does not lead upwards; downgrades walk steps backwards"


def test_a_migration_step_that_is_written_two_ways_is_refused() -> None:
    steps: dict[str, list[str]] = {"(1.0.0, 1.1.0)": [], "(1.0.0,1.1.0)": []}
    text = refusal(sample_with(migrations=steps))
    assert text == "migrations: the step from 1.0.0 to 1.1.0 is listed twice"


def test_a_migration_with_a_path_is_refused() -> None:
    text = refusal(sample_with(migrations={"(1.0.0, 1.1.0)": ["../m"]}))
    assert text == (
        "migrations '(1.0.0, 1.1.0)': '../m' is no flat file name of letters, digits and . _ + -"
    )


def test_a_serialised_manifest_looks_as_documented() -> None:
    manifest = a_manifest(an_update("1.1.0", starts={0: 0, 20: 3}))
    assert json.loads(serialise(manifest)) == {
        "updates": [
            {
                "variant": "aws-k8s-1.30",
                "arch": "x86_64",
                "version": "1.1.0",
                "max_version": "9.0.0",
                "waves": {"0": "2030-01-01T00:00:00Z", "20": "2030-01-01T03:00:00Z"},
                "images": {
                    "boot": "1.1.0-boot.ext4.zst",
                    "root": "1.1.0-root.ext4.zst",
                    "hash": "1.1.0-root.verity.zst",
                },
            }
        ],
        "migrations": {},
    }


numbers = st.integers(0, 10**6)
suffixes = st.none() | st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True)
versions = st.builds(Version, numbers, numbers, numbers, suffixes, suffixes)
identifiers = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,20}", fullmatch=True)
times = st.datetimes(timezones=st.just(UTC))


@st.composite
def rollouts(draw: st.DrawFn) -> tuple[Wave, ...]:
    bounds = sorted(draw(st.sets(st.integers(0, SEEDS), max_size=4)))
    starts = sorted(draw(st.lists(times, min_size=len(bounds), max_size=len(bounds))))
    pairs = zip(bounds, starts, strict=True)
    return tuple(Wave(bound=bound, starts_at=start) for bound, start in pairs)


updates = st.builds(
    Update,
    variant=identifiers,
    arch=identifiers,
    version=versions,
    max_version=versions,
    waves=rollouts(),
    images=st.builds(
        Images,
        boot=names.map("boot-{}".format),
        root=names.map("root-{}".format),
        hash=names.map("hash-{}".format),
    ),
)
steps = st.tuples(versions, versions).filter(lambda step: step[0] < step[1])
manifests = st.builds(
    Manifest,
    updates=st.lists(
        updates, max_size=3, unique_by=lambda each: (each.variant, each.arch, each.version)
    ).map(tuple),
    migrations=st.dictionaries(steps, st.lists(names, max_size=3).map(tuple), max_size=3),
)


@given(manifests)
def test_a_manifest_that_is_serialised_and_read_back_is_the_same(manifest: Manifest) -> None:
    again = parse_manifest(serialise(manifest))
    assert again == manifest
    # Versions that differ in their build alone count as equal, so compare their texts too.
    assert serialise(again) == serialise(manifest)


@given(times)
def test_a_time_that_is_written_and_read_back_is_the_same(time: datetime) -> None:
    assert parse_time(format_time(time)) == time


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(sorted(SAMPLE["updates"][0])), junk, min_size=1))
def test_whatever_stands_in_a_field_is_read_or_refused_in_one_printable_line(
    changes: dict[str, object],
) -> None:
    with suppress(ManifestError):
        parse_manifest(sample(**changes))
        return
    refusal(sample(**changes))


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ManifestError):
        parse_manifest(data)
