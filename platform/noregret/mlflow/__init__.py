"""Model versions out of an MLflow registry, and the word back when one of them becomes champion."""
