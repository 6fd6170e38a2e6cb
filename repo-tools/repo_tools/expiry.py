"""When the metadata of a repository expires. Changes nothing."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from repo_tools.policy import ROLES, Policy
from repo_tools.repository import PublishedRepository


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """Until when clients accept a role's current metadata."""

    role: str
    version: int
    expires: datetime


def root_warning(policy: Policy) -> timedelta:
    """Return how long before its end people are told of a root: they have to come together."""
    return policy.lifetimes["root"] / 10


def validities(published: PublishedRepository) -> tuple[Validity, ...]:
    """Return the validity of each role that is published, root first."""
    return tuple(
        Validity(
            role=role,
            version=published.roles[role].signed.version,
            expires=published.roles[role].signed.expires,
        )
        for role in ROLES
        if role in published.roles
    )
