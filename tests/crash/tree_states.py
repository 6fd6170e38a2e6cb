"""Every state in which a power cut can leave a tree of files: what was not flushed may be lost.

Of the names in each directory that were changed since its last flush any beginning may be kept, and
all but one; of what was written into each file since its last flush any beginning, half of a write,
a longer file full of zeros, or nothing. Directories and files do not wait for each other. Where
that makes too many trees, a sample is taken: all kept, all lost, one choice at a time, random ones.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Final, TypeAlias

from tests.crash.recorded import Content, Directory, File, Node, Recording, spread

_Names: TypeAlias = "Mapping[str, Node]"
_Choice: TypeAlias = "bytes | Mapping[str, Node]"

_ZEROS_AFTER: Final = 4096
"""What a file may be longer by than what was written into it: the rest of a block."""


def tree_states(
    recording: Recording, moment: float, *, most: int, chance: random.Random
) -> Iterator[dict[str, Content]]:
    """Yield trees that a cut at a moment can leave; the same tree may come more than once.

    Args:
        recording: what was done to the tree.
        moment: a place in the trace, or infinity.
        most: how many trees to yield at most, about.
        chance: picks the sample.
    """
    choices = {node: _choices(node, moment) for node in recording.nodes()}
    open_choices = {node: each for node, each in choices.items() if len(each) > 1}
    settled = {node: each[0] for node, each in choices.items()}
    for picked in _combinations([*open_choices.values()], most, chance):
        kept = settled | dict(zip(open_choices, picked, strict=True))
        yield spread(recording.root, _names_in(kept), _content_in(kept))


def _names_in(kept: Mapping[File | Directory, _Choice]) -> Callable[[Directory], _Names]:
    def names_of(directory: Directory) -> _Names:
        names = kept[directory]
        assert not isinstance(names, bytes)
        return names

    return names_of


def _content_in(kept: Mapping[File | Directory, _Choice]) -> Callable[[File], bytes]:
    def content_of(file: File) -> bytes:
        content = kept[file]
        assert isinstance(content, bytes)
        return content

    return content_of


def _combinations(
    choices: Sequence[Sequence[_Choice]], most: int, chance: random.Random
) -> Iterator[tuple[_Choice, ...]]:
    if prod(map(len, choices)) <= most:
        yield from product(*choices)
        return
    lost, kept = tuple(each[0] for each in choices), tuple(each[-1] for each in choices)
    yield lost
    yield kept
    ones = [(at, choice) for at, each in enumerate(choices) for choice in each]
    for at, choice in chance.sample(ones, min(len(ones), most // 2)):
        rest = chance.choice((lost, kept))
        yield (*rest[:at], choice, *rest[at + 1 :])
    for _ in range(most // 2):
        yield tuple(map(chance.choice, choices))


def _choices(node: File | Directory, moment: float) -> list[_Choice]:
    """Return what a cut can leave of a node: first what is left for certain, last all."""
    if isinstance(node, File):
        return list(dict.fromkeys(_contents(node, moment)))
    return list(_names(node, moment))


def _contents(file: File, moment: float) -> Iterator[bytes]:
    content = file.first
    for change in file.changes:
        if change.is_durable(moment):
            content = change.applied(content)
    yield content
    for change in file.changes:
        if not change.is_pending(moment):
            continue
        before, content = content, change.applied(content)
        if change.data is not None:
            middle = change.offset + len(change.data) // 2
            yield content[:middle].ljust(len(before), b"\0")
            yield before.ljust(len(content), b"\0")
            yield before.ljust(len(content) + _ZEROS_AFTER, b"\0")
        yield content


def _names(directory: Directory, moment: float) -> Iterator[_Names]:
    pending = [change for change in directory.changes if change.is_pending(moment)]
    settled = dict(directory.first)
    for change in directory.changes:
        if change.is_durable(moment):
            change.apply(settled)
    yield settled
    count = len(pending)
    lost_one = [[i for i in range(count) if i != lost] for lost in range(count - 1)]
    for kept in (*lost_one, *(range(size) for size in range(1, count + 1))):
        names = dict(settled)
        for index in kept:
            pending[index].apply(names)
        yield names
