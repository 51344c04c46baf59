"""How good an answer is: LaMP's metrics, structure, evidence, a judge of free text, intervals, trivial baselines."""
