"""Which pretrained model is meant, where it lies and who it is. No Paddle."""
