"""What a look at a repository has shown, one line each."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """How bad it is. A fault stops some client; what is absent does so for those that need it."""

    FAULT = "fault"
    ABSENT = "absent"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something wrong with `subject`, which is a file, a target, a role or an update."""

    kind: Kind
    subject: str
    text: str

    def document(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {"kind": str(self.kind), "subject": self.subject, "text": self.text}


def fault(subject: str, text: object) -> Finding:
    """Return a finding that stops some client."""
    return Finding(kind=Kind.FAULT, subject=subject, text=str(text))


def warning(subject: str, text: object) -> Finding:
    """Return a finding that stops nobody yet."""
    return Finding(kind=Kind.WARNING, subject=subject, text=str(text))


def absent(subject: str, text: object) -> Finding:
    """Return a target whose file is not there."""
    return Finding(kind=Kind.ABSENT, subject=subject, text=str(text))
