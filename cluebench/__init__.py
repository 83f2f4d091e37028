"""Fine-tune Chinese pretrained language models over the ten tasks of the CLUE benchmark, on PaddlePaddle."""

__version__ = "0.1.0"
