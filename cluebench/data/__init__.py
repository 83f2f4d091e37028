"""From official CLUE files to rows: finds the files, checks them, describes their rows. No tokenizer, no Paddle."""
