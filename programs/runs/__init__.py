"""Run directories, configs, provenance, MLflow."""
