"""`leaderboard`: the reports of many runs as one table for each task and data, ranked by the first metric."""
