"""What can go wrong in the registry.

RegistryError
├── ArtifactRefused      the artefact is unsafe, damaged, or no model
├── DefinitionInvalid    what describes the model can't be used; `field` says which part
└── VersionTaken         the version exists with another content
"""


class RegistryError(Exception):
    """The root of these."""


class ArtifactRefused(RegistryError):
    """The artefact is unsafe, damaged, or no model."""


class DefinitionInvalid(RegistryError):
    """What describes the model can't be used."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


class NameTaken(RegistryError):
    """The name of the model is others'."""


class VersionTaken(RegistryError):
    """The version exists with another content."""
