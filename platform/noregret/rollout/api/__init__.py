"""Endpoints and experiments over HTTP: documents in, acts done, documents out."""
