"""Measuring programs side by side: runner, report, ablation, controls, baselines, sweep."""
