"""The nouns: endpoints, experiments, arms, what a document of one may say, and what may follow
what.

Nothing here acts: no snapshot is published, no ledger read, no champion changed. Nothing of
`learning`, `rollout` or `steering` enters.
"""
