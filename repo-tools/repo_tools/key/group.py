"""`repo-tools key`: the list of its commands."""

from repo_tools.groups import group_of


@group_of(
    "repo_tools.key",
    {
        "generate": "Make private keys, encrypted with a passphrase.",
        "list": "Show the keys of a publisher, or any others.",
    },
    epilog="""\b
Examples:
  repo-tools key generate keys/ann.pem
  repo-tools key list""",
)
def key(**_shared: object) -> None:
    """Private keys as files, and which keys there are.

    Keys in a PKCS #11 device or a cloud's key service are made with the tools of those; commands
    take them by a signer URI like hsm:2?label=TOKEN, awskms:ARN, gcpkms:NAME,
    azurekms://VAULT.vault.azure.net/keys/NAME/VERSION or hv:NAME/VERSION. Each needs an extra of
    this package: hsm, aws, gcp, azure, vault. The library of a device is named by PYKCS11LIB; its
    PIN is asked for, or taken from REPO_TOOLS_PIN. Key services take their settings from the
    environment as their own tools do. envvar:NAME is a PEM key in an environment variable.
    """
