"""LaMP-QA's data: questions with what their users wanted to be answered, and response files."""
