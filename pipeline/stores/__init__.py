"""The only code that opens a table, a database or a registry."""
