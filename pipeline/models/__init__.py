"""Everything that scores items for users."""
