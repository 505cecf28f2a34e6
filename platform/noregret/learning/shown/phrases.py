"""Figures as people read them, the same in reasons, on pages and in the demo."""

# Evidence is a product over decisions: past so many times what is needed its digits say nothing
# more.
FAR_BEYOND = 1000.0


def evidence_told(value: float, needed: float) -> str:
    """Evidence beside what is needed, as a phrase: 'no evidence yet (40 needed)', 'evidence 3.2 of
    the 40 needed', 'evidence 3,041 (40 needed)'."""
    if value < 1.05:  # it begins at 1, and below 1 it only says that the other way round is likelier
        return f"no evidence yet ({needed:,.0f} needed)"
    if value >= FAR_BEYOND * needed:
        return f"evidence far beyond the {needed:,.0f} needed"
    if value >= needed:
        return f"evidence {value:,.0f} ({needed:,.0f} needed)"
    return (
        f"evidence {value:,.0f} of the {needed:,.0f} needed"
        if value >= 10
        else (f"evidence {value:.1f} of the {needed:,.0f} needed")
    )


def of_needed(value: float, needed: float) -> str:
    """How many of those that are needed, as '4 of 20'; and '20 needed, 95' where there are more."""
    return f"{value:,.0f} of {needed:,.0f}" if value <= needed else f"{needed:,.0f} needed, {value:,.0f}"


def counts_told(decisions: int, rewards: int) -> str:
    """How many decisions and rewards there are. Rewards count as they come in, decisions once their
    rows are written: where rewards are ahead it is said which of the two is late."""
    if rewards > decisions:
        return f"{rewards:,} rewards, and {decisions:,} of the decisions they are for: the others are being written"
    return f"{decisions:,} decisions, {rewards:,} rewards"


def duration(seconds: float) -> str:
    """A span of time in its largest whole unit: 3600 is '1 h', 90 is '90 s'."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:,g} s"


# The platform's own actors, as a sentence calls them; people are called by their names.
_ACTORS = {"learner": "the learner", "schedule": "its schedule", "guardrail": "a guardrail"}


def actor_told(actor: str) -> str:
    """Who did something, within a sentence."""
    return _ACTORS.get(actor, actor)


def probability_told(value: float) -> str:
    """A probability in per cent that is never rounded to certainty: 'over 99.9 %'."""
    if value > 0.999:
        return "over 99.9%"
    if value < 0.001:
        return "under 0.1%"
    return f"{value:.1%}"


def listed(names: list[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
