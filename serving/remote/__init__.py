"""Models that answer on another machine: what each protocol sends for rows, and what of an answer
is believed. One file a protocol.
"""
