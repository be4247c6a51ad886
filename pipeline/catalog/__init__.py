"""The feature catalogue: what there is, how fresh, how it looks, where it comes from, how to read it. Pure."""
