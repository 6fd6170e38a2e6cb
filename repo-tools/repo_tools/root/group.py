"""`repo-tools root`: the list of its commands."""

from repo_tools.groups import group_of


@group_of(
    "repo_tools.root",
    {
        "create": "Draft the first root, and a publisher.toml.",
        "rotate": "Draft the next root: other keys, thresholds, expiry.",
        "sign": "Sign a draft; a complete one is put in place.",
        "show": "Show keys, thresholds, expiry, who signed, who is missing.",
    },
    epilog="""\b
Examples:
  repo-tools root create --key root=keys/ann.pem --key root=keys/bob.pub \\
      --key targets=keys/targets.pem --key snapshot=keys/online.pem \\
      --key timestamp=keys/online.pem
  repo-tools root sign --key keys/ann.pem
  repo-tools root show""",
)
def root(**_shared: object) -> None:
    """Who may sign what: the metadata that machines trust from the beginning.

    A new root is drafted in one file, next-root.json. It goes to everybody who must sign it, one
    after the other or as copies at once, on machines without a network if need be; `root sign
    --import` takes the signatures out of copies. As soon as enough have signed, by the keys of the
    root before and by its own, `root sign` puts it in place.

    A key of another role is replaced in one ceremony: name the old and the new one in [keys] of
    publisher.toml, and both sign what is published before the new root takes over.

    A lost root key: as long as the others are enough for the threshold, `root rotate --remove`
    takes it out and `--add` lists a new one. A lost key of another role still vouches for what is
    published: first only add the new one, publish, and remove the old one afterwards. A stolen one
    is out at once with `root sign --before-publish`, then `refresh --all`. When too few root keys
    are left, nothing can replace them: every machine needs a new root by hand. So list one root key
    more than must sign, and keep it elsewhere.
    """
