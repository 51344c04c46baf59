"""The recipe of the embedded models: `python -m finetune.pocket` trains them."""
