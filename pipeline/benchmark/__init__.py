"""All models and what a user would pick instead, on one log, one split and one set of questions."""
