"""Implementations of the ops by device."""
