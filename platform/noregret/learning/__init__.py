"""From the ledger to what is known: drain, close buckets, fold, sum up, and tell.

No experiment is changed here, and nothing is published. Who calls says, with `learned`, what is to
follow from something new.
"""
