"""The table of faults names each test of its files, and no test that is not there."""

import re
from pathlib import Path

import tests.faults

DIRECTORY = Path(tests.faults.__file__).parent


def test_the_table_of_faults_names_every_test_of_its_files_and_no_other() -> None:
    sections = re.split(r"^(test_\w+\.py).*$", tests.faults.__doc__ or "", flags=re.MULTILINE)
    files, texts = sections[1::2], sections[2::2]
    assert len(files) == 7
    for file, text in zip(files, texts, strict=True):
        named = re.findall(r"^    (test_\w+)$", text, re.MULTILINE)
        written = re.findall(r"^def (test_\w+)\(", (DIRECTORY / file).read_text(), re.MULTILINE)
        assert named == written, file
        assert len(re.findall(r"^        \S", text, re.MULTILINE)) == len(named), file
