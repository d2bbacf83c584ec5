"""Which target a simulator plays."""

from collections.abc import Mapping
from dataclasses import dataclass

PROVIDERS: Mapping[str, str] = {"alpha": "alpha-large", "beta": "beta-medium"}
"""Simulated provider -> its model. In the order of the local configuration's tiers."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A target. Its id goes into headers and fingerprints, never into answers."""

    id: str
    region: str
    provider: str
    model: str

    @property
    def fingerprint(self) -> str:
        """OpenAI's `system_fingerprint`."""
        return f"fp_{self.id}"


def identity_of(target_id: str) -> Identity:
    """What a target is by its name alone: `alpha-us-east` is provider `alpha` in region `us-east`."""
    provider, _, region = target_id.partition("-")
    return Identity(
        id=target_id,
        region=region or "nowhere",
        provider=provider,
        model=PROVIDERS.get(provider, f"{provider}-1"),
    )
