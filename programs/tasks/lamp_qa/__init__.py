"""The tasks of LaMP-QA, one for each of its categories."""
