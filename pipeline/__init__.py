"""The platform that models how users' interests move; start reading at `pipeline.steps`."""
