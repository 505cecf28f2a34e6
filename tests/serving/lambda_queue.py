"""A queue of decisions that is a file: what a function's own code would send to SQS."""

from pathlib import Path

QUEUE = Path("queue.txt")
"""In the folder that the function runs in."""


def send(text: str) -> None:
    with QUEUE.open("a") as file:
        file.write(text + "\n")
