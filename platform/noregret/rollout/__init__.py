"""The acts of people: create, start, pause, stop, promote, roll back, add and disable arms; and the
snapshot that follows from each.

They join what is configured (`experiments`) with what is known (`learning`). What the platform does
by itself never enters: that is `steering`.
"""
