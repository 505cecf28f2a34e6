"""The acts of the platform itself: rounds of learning, schedules, guardrails, canary steps, promotions, and publishing what was learned.

No figure is computed here: what is decided on is read from `learning`, and what is done is done by `rollout`.
"""
