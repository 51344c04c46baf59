"""LaMP's own files: download them, read them row by row, check them, show an example."""
