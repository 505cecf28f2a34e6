"""Acts: snapshot in memory -> arm -> prediction -> recorded decision; rewards in. Imports nothing
of the platform."""
