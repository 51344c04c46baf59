"""The in-process engine: transformers with continuous batching."""
