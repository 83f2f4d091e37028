"""Official CLUE files to rows: where they lie, whether they are what they should be, what is in them.

Nothing here knows a tokenizer or Paddle.
"""
