"""Small embedders for every test that needs one: a bag of words, and a real encoder."""

from zlib import crc32

import numpy as np


def hashed(texts):
    """Each word counts in one of 16 places: a bag of words."""
    vectors = np.zeros((len(texts), 16))
    for row, text in zip(vectors, texts, strict=True):
        for word in text.split():
            row[crc32(word.encode()) % 16] += 1
    return vectors


def build_encoder(directory, limit=None):
    """A random BERT of two layers, that reads 12 tokens, and its tokenizer of whole words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "rain", "sea", "storm", "lighthouse"]
    raw = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    limits = {} if limit is None else {"model_max_length": limit}
    PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", **limits).save_pretrained(
        directory
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=12,
        initializer_range=0.5,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(directory)
    return directory
