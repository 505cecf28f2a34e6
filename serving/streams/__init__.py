"""Predictions from a stream of messages (`manage.py stream`): one answer and one decision a
request, whatever dies.

A consumer takes messages, predicts in its own process, and keeps what it is going to answer, with
the decision, before anybody is told of either (`kept`). Whoever takes the message up after it
repeats that, and makes no decision of its own. An answer and the acknowledgement of its message are
one step of the engine (`redis_stream`, `kafka_topic`).
"""
