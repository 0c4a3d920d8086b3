"""The `replicate` op: copies of whole blocks."""
