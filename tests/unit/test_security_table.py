"""docs/security.md names each attack's test, and no test that is not there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def threats() -> list[str]:
    """Return the lines of the threat model."""
    text = (ROOT / "docs" / "security.md").read_text()
    return text.partition("## Threats")[2].partition("\n## ")[0].splitlines()


def named_tests() -> dict[str, set[str]]:
    """Return the tests that the threat model names, by the file that it names above them."""
    named: dict[str, set[str]] = {}
    tests: set[str] = set()
    for line in threats():
        if file := re.search(r"\(\.\./tests/attacks/(test_\w+\.py)\)", line):
            tests = named.setdefault(file[1], set())
        elif row := re.search(r"\| `(test_\w+)` \|$", line):
            tests.add(row[1])
    return named


def written_tests() -> dict[str, set[str]]:
    return {
        path.name: set(re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE))
        for path in (ROOT / "tests" / "attacks").glob("test_*.py")
    }


def test_the_threat_model_names_every_attack_test_and_no_other() -> None:
    assert named_tests() == written_tests()


def test_every_row_of_the_threat_model_names_a_test() -> None:
    rows = [line for line in threats() if re.match(r"\| (?!attack \|)", line)]
    assert rows
    assert [row for row in rows if not re.search(r"\| `test_\w+` \|$", row)] == []
