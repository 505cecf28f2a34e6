"""What guardrails watch: sums over the ledger, and how an arm stands to a limit by these.

What is done about an arm past its limit never enters: that is `steering`.
"""
