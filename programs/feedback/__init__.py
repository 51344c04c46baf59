"""Answers that a service gave, what its users said of them, and the rows that become of both."""
