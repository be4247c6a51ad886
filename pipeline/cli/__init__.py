"""The `interest` command: a command is a step with words."""
