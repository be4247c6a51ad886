"""Pseudonyms and receipts: what privacy means, without a store."""
