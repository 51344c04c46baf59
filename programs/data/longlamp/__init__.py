"""LongLaMP's data, from the Hugging Face hub into files of LaMP's shape, and the reading of its rows."""
