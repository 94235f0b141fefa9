"""The theorems of the lecture notes, each with its evidence."""
