"""LaMP's own files: getting them, reading them row by row, checking and showing them."""
