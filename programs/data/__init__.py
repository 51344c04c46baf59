"""The examples of tasks: LaMP's files, JSONL rows, the persona world, and how they are split."""
