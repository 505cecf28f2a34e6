"""What a unit keeps while its arm is sticky."""

from typing import NamedTuple


class Assignment(NamedTuple):
    """A unit's arm, and every arm's probability when it was drawn."""

    arm_id: int
    propensities: list[float]
    provisional: bool = False  # given while Redis lacked what the ledger knows
