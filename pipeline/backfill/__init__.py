"""What a backfill would write and why, and how what it would write differs from what stands. No store is touched."""
