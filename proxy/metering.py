"""Which number is booked for an attempt (floor 1b, pure): reported, else computed, else estimated, else held."""
