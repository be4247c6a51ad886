"""Behaviour logs: how they are read, checked, refused and described."""
