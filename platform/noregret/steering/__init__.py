"""The acts of the platform itself: rounds, schedules, guardrails, canary steps, promotions,
publishing.

No figure is computed here: what is decided on is read from `learning`, what is done `rollout` does.
"""
