"""The page that shows data quality, interests and models."""
