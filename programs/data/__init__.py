"""Where examples come from: LaMP's files, JSONL rows, the persona world."""
