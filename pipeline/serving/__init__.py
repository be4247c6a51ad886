"""Look-ups and recommendations, as they are asked for."""
