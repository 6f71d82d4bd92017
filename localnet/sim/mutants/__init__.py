"""The product with one rule switched off, and the hunt for the schedule that shows it."""
