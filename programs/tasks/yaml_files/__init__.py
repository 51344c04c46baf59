"""Task files in YAML: their keys, and the ready-made checks that they name."""
