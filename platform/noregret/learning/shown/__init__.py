"""What is known, told to people: results, forecasts, segments, evaluations, recommendations. Reads
only.

Nothing here writes a row, and no step of learning depends on what is told.
"""
